//! The audit itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::{Position, Symbol, Timestamp, TradeRow, lake};
use ports::{Archive, LogScan, TableQuery};

use crate::archive::{self, Chain};
use crate::compare::Evidence;
use crate::insist;
use crate::report::Report;
use crate::snapshot::{Lag, Topics, lag};
use crate::tally::{Tallies, Tally};
use crate::{AuditError, log, tables};

/// How many differing trades of one hour and store are named.
const NAMED: usize = 20;

/// What the audit reads.
pub struct AuditPorts {
    /// The log.
    pub scan: Arc<dyn LogScan>,
    /// The tables.
    pub query: Arc<dyn TableQuery>,
    /// The archive.
    pub archive: Arc<dyn Archive>,
}

/// Compares log, tables and archive.
///
/// # Errors
/// If one of them cannot be read.
pub async fn audit(ports: &AuditPorts, topics: &Topics) -> Result<Report, AuditError> {
    let lags = lag(ports.scan.as_ref(), ports.query.as_ref(), ports.archive.as_ref(), topics).await?;
    let mut audit = Audit { ports, topics, lags, evidence: Evidence::default(), report: Report::default() };
    audit.report.pending = audit.lags.iter().map(Lag::pending).sum();
    audit.report.findings.extend(audit.lags.iter().flat_map(Lag::ahead));
    audit.read_log().await?;
    audit.read_archive().await?;
    audit.read_tables().await?;
    audit.read_ahead().await?;
    audit.read_causes().await?;
    audit.find_differing().await?;
    let (hours, findings) = audit.evidence.judge();
    audit.report.hours = hours;
    audit.report.findings.extend(findings);
    Ok(audit.report)
}

struct Audit<'a> {
    ports: &'a AuditPorts,
    topics: &'a Topics,
    lags: Vec<Lag>,
    evidence: Evidence,
    report: Report,
}

impl Audit<'_> {
    async fn read_log(&mut self) -> Result<(), AuditError> {
        for lag in &self.lags {
            let from = Position { at: lag.at.clone(), offset: lag.first };
            let log = &mut self.evidence.log;
            self.report.unusable += log::tally(self.ports.scan.as_ref(), &from, lag.limit(), log).await?;
        }
        Ok(())
    }

    async fn read_archive(&mut self) -> Result<(), AuditError> {
        let archive = self.ports.archive.as_ref();
        let trades = Chain::list(archive, lake::TRADES).await?;
        let raw = Chain::list(archive, &lake::raw_dataset(&self.topics.stream)).await?;
        for lag in &self.lags {
            let first = Position { at: lag.at.clone(), offset: lag.first };
            for chain in [&trades, &raw] {
                self.report.findings.extend(chain.check(archive, &first, lag.limit()).await?);
            }
            let evidence = &mut self.evidence;
            for name in trades.of(lag.at.partition).filter(|name| name.start_offset < lag.limit()) {
                archive::for_each_row(archive, name, lag.limit(), |offset, row| {
                    evidence.archive.add(row);
                    // What retention took from the log, the archive alone remembers.
                    if offset < lag.first {
                        evidence.log.add(row);
                    }
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn read_tables(&mut self) -> Result<(), AuditError> {
        let mut hours: BTreeSet<(Symbol, Timestamp)> = BTreeSet::new();
        hours.extend(self.evidence.log.iter().map(|(symbol, hour, _)| (symbol.clone(), hour)));
        let days: BTreeSet<_> = hours.iter().map(|(symbol, hour)| (symbol.clone(), hour.day())).collect();
        for (symbol, day) in days {
            for row in insist("read completeness", || self.ports.query.completeness(&symbol, day)).await? {
                hours.insert((symbol.clone(), row.hour));
                if let Some(duplicates) = row.duplicates {
                    self.evidence.dropped.insert((symbol.clone(), row.hour), duplicates.dropped);
                }
            }
        }
        let stored = &mut self.evidence.tables;
        for (symbol, hour) in hours {
            tables::for_each_trade(self.ports.query.as_ref(), &symbol, hour, |row| stored.add(row)).await?;
        }
        Ok(())
    }

    /// What was appended meanwhile: the tables may have it already.
    async fn read_ahead(&mut self) -> Result<(), AuditError> {
        let now = insist("log bounds", || self.ports.scan.bounds(&self.topics.stream)).await?;
        for (lag, bounds) in self.lags.iter().zip(now) {
            let ahead = &mut self.evidence.ahead;
            log::tally(self.ports.scan.as_ref(), &lag.limit_position(), bounds.end, ahead).await?;
        }
        Ok(())
    }

    async fn read_causes(&mut self) -> Result<(), AuditError> {
        for symbol in self.evidence.log.symbols() {
            let gaps = insist("read gaps", || self.ports.query.gaps(&symbol)).await?;
            self.evidence.gaps.insert(symbol, gaps);
        }
        Ok(())
    }

    /// Where the sums of fingerprints differ, looks for the trades.
    async fn find_differing(&mut self) -> Result<(), AuditError> {
        let suspects: Vec<(Symbol, Timestamp)> = {
            let log = self.evidence.log.iter();
            log.filter(|(symbol, hour, tally)| self.is_suspect(symbol, *hour, tally))
                .map(|(symbol, hour, _)| (symbol.clone(), hour))
                .collect()
        };
        for (symbol, hour) in suspects {
            let expected = self.fingerprints(&symbol, hour).await?;
            let mut stored = Vec::new();
            tables::for_each_trade(self.ports.query.as_ref(), &symbol, hour, |row| {
                if differs(&expected, row) {
                    stored.push(("tables", row.trade.id));
                }
            })
            .await?;
            let mut archived = Vec::new();
            let chain = Chain::list(self.ports.archive.as_ref(), lake::TRADES).await?;
            for lag in &self.lags {
                for name in chain.of(lag.at.partition).filter(|name| name.start_offset < lag.limit()) {
                    archive::for_each_row(self.ports.archive.as_ref(), name, lag.limit(), |_, row| {
                        let here = row.trade.symbol == symbol && row.hour() == hour;
                        if here && differs(&expected, row) {
                            archived.push(("archive", row.trade.id));
                        }
                    })
                    .await?;
                }
            }
            let named = stored.into_iter().take(NAMED).chain(archived.into_iter().take(NAMED));
            self.evidence.differing.extend(named.map(|(store, id)| (store, symbol.clone(), hour, id)));
        }
        Ok(())
    }

    fn is_suspect(&self, symbol: &Symbol, hour: Timestamp, log: &Tally) -> bool {
        let differs = |held: &Tallies| {
            let held = held.get(symbol, hour);
            held.is_some_and(|held| held.ids == log.ids && held.fingerprint != log.fingerprint)
        };
        // With trades behind the limit in the same hour, the tables' sum has more in it.
        let unsettled = self.evidence.tables.get(symbol, hour).is_some_and(|held| held.ids != log.ids);
        differs(&self.evidence.tables) || differs(&self.evidence.archive) || unsettled
    }

    async fn fingerprints(&self, symbol: &Symbol, hour: Timestamp) -> Result<BTreeMap<u64, u64>, AuditError> {
        let mut fingerprints = BTreeMap::new();
        for lag in &self.lags {
            let from = Position { at: lag.at.clone(), offset: lag.first };
            log::for_each_trade(self.ports.scan.as_ref(), &from, lag.limit(), |row| {
                if row.trade.symbol == *symbol && row.hour() == hour {
                    fingerprints.entry(row.trade.id).or_insert_with(|| row.fingerprint());
                }
            })
            .await?;
        }
        Ok(fingerprints)
    }
}

fn differs(expected: &BTreeMap<u64, u64>, row: &TradeRow) -> bool {
    expected.get(&row.trade.id).is_some_and(|fingerprint| *fingerprint != row.fingerprint())
}
