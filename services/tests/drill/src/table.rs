//! What became of the tape, a line for each fault.

use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_HORIZONTAL_ONLY};

use crate::faults::{Acted, Fault};
use crate::judge::Verdict;

/// A fault and what became of it.
pub struct Row {
    fault: &'static Fault,
    outcome: Result<Outcome, String>,
}

struct Outcome {
    acted: Acted,
    recovered: Duration,
    verdict: Verdict,
}

impl Row {
    /// What a fault led to.
    pub fn of(fault: &'static Fault, outcome: anyhow::Result<(Acted, Duration, Verdict)>) -> Self {
        let outcome = outcome.map(|(acted, recovered, verdict)| Outcome { acted, recovered, verdict });
        Self { fault, outcome: outcome.map_err(|error| format!("{error:#}")) }
    }

    /// Whether nothing was lost or doubled, and all was well again.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.verdict.is_clean())
    }

    fn cells(&self) -> [String; 8] {
        let fault = self.fault;
        let head = [fault.row.to_owned(), fault.name.to_owned(), fault.what.to_owned()];
        let tail = match &self.outcome {
            Ok(Outcome { acted, recovered, verdict }) => [
                seconds(acted.outage),
                acted.recovery().unwrap_or_else(|| seconds(*recovered)),
                verdict.lost.to_string(),
                verdict.doubled.to_string(),
                if self.passed() { "pass".to_owned() } else { format!("FAIL: {}", verdict.others.join("; ")) },
            ],
            Err(error) => ["", "", "", ""]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("FAIL: {error}")])
                .collect::<Vec<_>>()
                .try_into()
                .expect("five cells"),
        };
        let [number, name, what] = head;
        let [outage, recovery, lost, doubled, verdict] = tail;
        [number, name, what, outage, recovery, lost, doubled, verdict]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, name, _, outage, recovery, lost, doubled, verdict] = self.cells();
        write!(f, "{name}: outage {outage}, recovery {recovery}, lost {lost}, doubled {doubled}: {verdict}")
    }
}

/// All rows.
pub fn rendered(rows: &[Row], markdown: bool) -> String {
    let mut table = Table::new();
    table.load_preset(if markdown { ASCII_MARKDOWN } else { UTF8_HORIZONTAL_ONLY });
    table.set_header(["#", "fault", "what was done", "outage", "recovery", "lost", "doubled", "verdict"]);
    rows.iter().for_each(|row| {
        table.add_row(row.cells());
    });
    table.to_string()
}

/// A time for people.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
