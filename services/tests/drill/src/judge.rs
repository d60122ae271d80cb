//! The judge: what the audit and the oracle say of the tape, and when all is well again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::{fulltape, get, pause};
use exchange_sim::{Issued, SimConfig};
use serde_json::Value;

use crate::scene::{PATIENCE, SYMBOLS, Scene};

/// What the audit says in the end.
pub struct Verdict {
    /// Trades that are missing anywhere.
    pub lost: u64,
    /// Rows or records too many.
    pub doubled: u64,
    /// Whatever else is wrong.
    pub others: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.others.is_empty()
    }
}

impl Scene {
    /// Waits until everything runs and is complete.
    ///
    /// # Errors
    /// If it is not within a while.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.revive()?;
        self.recovered().map(drop).context("before the fault")
    }

    /// How long it takes until everything that has been issued by now is everywhere.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn recovered(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let goal = self.issued()?;
        let mut last = None;
        while started.elapsed() < PATIENCE {
            self.revive()?;
            if let Some(report) = self.audit()? {
                if is_clean(&report) && has_come_to(&report, &goal) {
                    return Ok(started.elapsed());
                }
                last = Some(report);
            }
            pause(Duration::from_millis(300));
        }
        let findings = last.map(|report| report["findings"].to_string()).unwrap_or_default();
        bail!("not complete after {} s: {}", PATIENCE.as_secs(), findings.chars().take(300).collect::<String>())
    }

    /// What the audit says.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn verdict(&mut self) -> anyhow::Result<Verdict> {
        let report = self.audit()?.context("the audit cannot be done")?;
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let absent = findings.iter().filter(|finding| finding["finding"] == "absent");
        let lost = e2e::total(&report, "missing") + absent.map(|finding| ids(&finding["ids"])).sum::<u64>();
        let doubled = e2e::total(&report, "duplicates");
        let mut others: Vec<String> = self.ended().into_iter().map(|role| format!("{role} ended by itself")).collect();
        others.extend(findings.iter().map(Value::to_string));
        Ok(Verdict { lost, doubled, others })
    }

    /// What an audit finds; nothing if it cannot be done.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn audit(&self) -> anyhow::Result<Option<Value>> {
        let config = self.audit_config()?;
        let run = fulltape(&["audit", "--json", "--config", &config]);
        // A server that is down is not a verdict.
        Ok((run.status() < 2).then(|| serde_json::from_str(&run.out())).transpose()?)
    }

    /// How often the exchange did what wrong.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn exchange_faults(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(self.issued()?.faults)
    }

    /// Whether the exchange has issued all that it ever will.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn is_over(&self) -> anyhow::Result<bool> {
        Ok(self.issued()?.done)
    }

    /// Compares the stores, as other programs read them, with the market, as the oracle computes it.
    ///
    /// # Errors
    /// If the exchange does not answer.
    ///
    /// # Panics
    /// If anything is missing, too much or different.
    pub fn compare_with_market(&self) -> anyhow::Result<()> {
        let config: SimConfig = serde_json::from_str(&get(self.exchange(), "/sim/config")?)?;
        let symbols = SYMBOLS.map(|symbol| symbol.parse().expect("a symbol"));
        e2e::cluster::compare_independently(&config, &self.issued()?, self.logs(), &symbols);
        Ok(())
    }

    /// What an audit finds that trusts nothing.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn audit_deeply(&self, more: &[&str]) -> anyhow::Result<Value> {
        let config = self.audit_config()?;
        let run = fulltape(&[&["audit", "--json", "--deep", "--wait", "60", "--config", &config], more].concat());
        ensure!(run.status() < 2, "no verdict: {}", run.err());
        Ok(serde_json::from_str(&run.out())?)
    }

    fn issued(&self) -> anyhow::Result<Issued> {
        Ok(serde_json::from_str(&get(self.exchange(), "/sim/issued")?)?)
    }
}

/// How many ids there are in `17` or `17-21`.
fn ids(range: &Value) -> u64 {
    let text = range.as_str().unwrap_or_default();
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    number(to).saturating_sub(number(from)) + 1
}

/// Whether an audit found nothing.
pub fn is_clean(report: &Value) -> bool {
    report["complete"] == true
}

/// Whether the log, the tables and the archive have come to what the exchange had issued.
fn has_come_to(report: &Value, goal: &Issued) -> bool {
    let hours = report["hours"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |symbol: &str| SYMBOLS.contains(&symbol);
    let mut ours = goal.symbols.iter().filter(|(symbol, issued)| is_ours(symbol.as_str()) && issued.last > 0);
    ours.all(|(symbol, issued)| {
        let of_symbol = hours.iter().filter(|hour| hour["symbol"] == symbol.as_str());
        let last = of_symbol.filter_map(|hour| hour["last_id"].as_u64()).max();
        last.is_some_and(|last| last >= issued.last)
    })
}
