//! The audit itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use columns::{ArchivedTrade, Span};
use domain::{Position, Record, Symbol, Timestamp, lake};
use ports::{Archive, LogScan, TableQuery};
use tokio::task::JoinSet;

use crate::chain::{ArchiveFile, Chain};
use crate::compare::Evidence;
use crate::file::{self, Checked};
use crate::hour::{self, Stored};
use crate::plan::{Plan, Stretch, plan};
use crate::proofs::{FileProof, Proofs};
use crate::report::{Damage, Finding, Report};
use crate::scope::{Scope, Topics};
use crate::snapshot::{Lag, lag};
use crate::tally::{Tallies, Tally};
use crate::{AuditError, UNREADABLE, insist, log};

/// Files or hours that are compared at once. A file is held whole, together with what is made again
/// of it.
const AT_ONCE: usize = 2;

/// What the audit reads. The archive also keeps what was proved.
#[derive(Clone)]
pub struct AuditPorts {
    /// The log.
    pub scan: Arc<dyn LogScan>,
    /// The tables.
    pub query: Arc<dyn TableQuery>,
    /// The archive.
    pub archive: Arc<dyn Archive>,
}

/// How far an audit has come with a part of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is compared: `files` or `hours`.
    pub what: &'static str,
    /// How many of them are.
    pub done: u64,
    /// How many there are.
    pub of: u64,
}

/// Whom to tell how an audit gets on.
pub type Told<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Compares log, tables and archive.
///
/// # Errors
/// If one of them cannot be read.
pub async fn audit(ports: &AuditPorts, topics: &Topics, scope: &Scope, told: Told<'_>) -> Result<Report, AuditError> {
    let lags = lag(ports.scan.as_ref(), ports.query.as_ref(), ports.archive.as_ref(), topics).await?;
    let proofs = Proofs::load(ports.archive.as_ref()).await?;
    let (evidence, report) = (Evidence::default(), Report::default());
    let mut audit = Audit { ports, topics, scope, told, proofs, evidence, report };
    audit.report.findings.extend(lags.iter().flat_map(Lag::ahead));
    let plans = audit.plan(&lags).await?;
    audit.compare_files(&lags, plans).await?;
    let hours = audit.hours().await?;
    audit.compare_tables(hours).await?;
    audit.read_ahead(&lags).await?;
    audit.read_causes().await?;
    audit.find_differing().await?;
    if let Err(error) = audit.proofs.save(ports.archive.as_ref()).await {
        tracing::warn!(%error, "what was proved is not remembered, the next audit proves it again");
    }
    Ok(audit.finish())
}

struct Audit<'a> {
    ports: &'a AuditPorts,
    topics: &'a Topics,
    scope: &'a Scope,
    told: Told<'a>,
    proofs: Proofs,
    evidence: Evidence,
    report: Report,
}

/// What the rows of a dataset are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Trades,
    Raw,
}

/// Something to be compared.
enum Piece {
    Trades(ArchiveFile, Span),
    Raw(ArchiveFile, Span),
    Bare(Position, i64),
}

impl Audit<'_> {
    /// Lays out both chains of each partition.
    async fn plan(&mut self, lags: &[Lag]) -> Result<Vec<(Kind, Plan)>, AuditError> {
        let archive = self.ports.archive.as_ref();
        let mut plans = Vec::new();
        let raw = lake::raw_dataset(&self.topics.stream);
        for (kind, dataset) in [(Kind::Trades, lake::TRADES.to_owned()), (Kind::Raw, raw)] {
            let chain = Chain::list(archive, &dataset).await?;
            for file in &chain.strangers {
                self.report.findings.push(Finding::Stranger { file: file.clone() });
            }
            for twin in &chain.twins {
                let (file, start) = (twin.name.to_string(), twin.name.start_offset);
                self.report.findings.push(Finding::BrokenChain { file, expected_start: start, start });
                self.report.damage.push(Damage::Overlap { name: twin.name.clone() });
            }
            for lag in lags {
                let known = (!self.scope.deep).then_some(&self.proofs);
                let mut plan = plan(archive, &chain, known, lag, lag.limit()).await?;
                self.report.findings.append(&mut plan.findings);
                self.report.damage.append(&mut plan.damage);
                if kind == Kind::Trades {
                    let offset = plan.end.unwrap_or(lag.first);
                    self.report.limits.push(Position { at: lag.at.clone(), offset });
                }
                plans.push((kind, plan));
            }
        }
        Ok(plans)
    }

    async fn compare_files(&mut self, lags: &[Lag], plans: Vec<(Kind, Plan)>) -> Result<(), AuditError> {
        let firsts: BTreeMap<i32, i64> = lags.iter().map(|lag| (lag.at.partition, lag.first)).collect();
        let mut pieces = VecDeque::new();
        for (kind, plan) in plans {
            for stretch in plan.stretches {
                match (stretch, kind) {
                    (Stretch::Proved(name, proof), _) => {
                        self.report.effort.files_proved_before += 1;
                        let from = Position { at: plan.at.clone(), offset: name.start_offset };
                        self.count(&proof.tallies(), None, proof.unusable, &(from, proof.end));
                    }
                    (Stretch::File(file, span), Kind::Trades) => pieces.push_back(Piece::Trades(file, span)),
                    (Stretch::File(file, span), Kind::Raw) => pieces.push_back(Piece::Raw(file, span)),
                    (Stretch::Bare(from, end), Kind::Trades) => pieces.push_back(Piece::Bare(from, end)),
                    (Stretch::Bare(..), Kind::Raw) => {}
                }
            }
        }
        let of = pieces.len() as u64;
        let (mut running, mut unreadable) = (JoinSet::new(), 0);
        loop {
            let done = of - (pieces.len() + running.len()) as u64;
            (self.told)(Progress { what: "files", done, of });
            while running.len() < AT_ONCE
                && let Some(piece) = pieces.pop_front()
            {
                let ports = self.ports.clone();
                let first = match &piece {
                    Piece::Trades(file, _) | Piece::Raw(file, _) => firsts.get(&file.name.partition),
                    Piece::Bare(from, _) => firsts.get(&from.at.partition),
                };
                let first = first.copied().unwrap_or_default();
                running.spawn(async move { (check(&ports, &piece, first).await, piece) });
            }
            let Some(joined) = running.join_next().await else { return Ok(()) };
            let (checked, piece) = joined.map_err(|error| AuditError::BrokeOff(error.to_string()))?;
            let mut checked = checked?;
            let error = checked.unreadable.take();
            self.note(&piece, checked);
            if let Some(error) = error {
                unreadable += 1;
                tracing::warn!(%error, "a file cannot be read");
                // One is damaged. If all are, it is the servers, and nothing is known.
                let is_last = pieces.is_empty() && running.is_empty();
                if unreadable == self.report.effort.files && (unreadable == UNREADABLE || is_last) {
                    return Err(error.into());
                }
            }
        }
    }

    fn note(&mut self, piece: &Piece, checked: Checked) {
        let (file, span) = match piece {
            Piece::Trades(file, span) | Piece::Raw(file, span) => (file, span),
            Piece::Bare(from, end) => {
                return self.count(&checked.log, Some(&Tallies::default()), checked.unusable, &(from.clone(), *end));
            }
        };
        self.report.effort.files += 1;
        let proof = checked.is_proved.then(|| FileProof {
            length: file.length,
            end: span.end,
            unusable: checked.unusable,
            trades: checked.log.iter().map(|(symbol, hour, tally)| (symbol.clone(), hour, tally.clone())).collect(),
        });
        self.proofs.note_file(&file.name, proof);
        if let Some(reason) = checked.fault {
            self.report.findings.push(Finding::Damaged { file: file.name.to_string(), reason });
            self.report.damage.push(Damage::File { name: file.name.clone(), end: Some(span.end) });
        }
        if matches!(piece, Piece::Trades(..)) {
            let place = (Position { at: span.at.clone(), offset: span.start }, span.end);
            self.count(&checked.log, checked.held.as_ref(), checked.unusable, &place);
            let differing = checked.differing.into_iter();
            self.evidence.differing.extend(differing.map(|(symbol, hour, id)| ("archive", symbol, hour, id)));
        }
    }

    /// Counts the trades of a stretch: those of the log, and those of the archive if they are others.
    fn count(&mut self, log: &Tallies, held: Option<&Tallies>, unusable: u64, place: &hour::Place) {
        self.evidence.log.merge(log);
        self.evidence.archive.merge(held.unwrap_or(log));
        self.report.unusable += unusable;
        log.iter().for_each(|(symbol, hour, _)| self.report.places.note(symbol, hour, place.clone()));
    }

    /// The hours to be compared with the tables: those that the log has, and those that the tables say
    /// they have.
    async fn hours(&mut self) -> Result<BTreeSet<(Symbol, Timestamp)>, AuditError> {
        let log = self.evidence.log.iter().map(|(symbol, hour, _)| (symbol.clone(), hour));
        let mut hours: BTreeSet<_> = log.filter(|(symbol, hour)| self.scope.includes(symbol, *hour)).collect();
        let days: BTreeSet<_> = hours.iter().map(|(symbol, hour)| (symbol.clone(), hour.day())).collect();
        for (symbol, day) in days {
            for row in insist("read completeness", || self.ports.query.completeness(&symbol, day)).await? {
                if !self.scope.includes(&symbol, row.hour) {
                    continue;
                }
                hours.insert((symbol.clone(), row.hour));
                if let Some(duplicates) = row.duplicates {
                    self.evidence.dropped.insert((symbol.clone(), row.hour), duplicates.dropped);
                }
            }
        }
        Ok(hours)
    }

    async fn compare_tables(&mut self, hours: BTreeSet<(Symbol, Timestamp)>) -> Result<(), AuditError> {
        let of = hours.len() as u64;
        let mut running = JoinSet::new();
        let mut hours = hours.into_iter();
        loop {
            let done = of - (hours.len() + running.len()) as u64;
            (self.told)(Progress { what: "hours", done, of });
            while running.len() < AT_ONCE
                && let Some((symbol, hour)) = hours.next()
            {
                let log = self.evidence.log.get(&symbol, hour).cloned().unwrap_or_default();
                let is_proved = !self.scope.deep && self.proofs.has_hour(&symbol, hour, &log);
                let query = self.ports.query.clone();
                running.spawn(async move {
                    let stored = hour::read(query.as_ref(), &symbol, hour, &log, is_proved).await;
                    (symbol, hour, log, stored)
                });
            }
            let Some(joined) = running.join_next().await else { return Ok(()) };
            let (symbol, hour, log, stored) = joined.map_err(|error| AuditError::BrokeOff(error.to_string()))?;
            self.note_hour(symbol, hour, &log, &stored?);
        }
    }

    fn note_hour(&mut self, symbol: Symbol, hour: Timestamp, log: &Tally, stored: &Stored) {
        let effort = &mut self.report.effort;
        *(if stored.is_counted { &mut effort.hours_proved_before } else { &mut effort.hours }) += 1;
        let is_same = stored.has(log);
        let is_all = stored.held.rows == log.rows;
        self.proofs.note_hour(&symbol, hour, Some(log).filter(|_| is_same && is_all));
        self.evidence.tables.put(&symbol, hour, &stored.held);
        if !is_same {
            self.evidence.suspects.push((symbol, hour));
        }
    }

    /// What was appended meanwhile: the tables may have it already.
    async fn read_ahead(&mut self, lags: &[Lag]) -> Result<(), AuditError> {
        let now = insist("log bounds", || self.ports.scan.bounds(&self.topics.stream)).await?;
        let limits = self.report.limits.iter().zip(lags.iter().zip(now));
        for (limit, (lag, bounds)) in limits {
            self.report.pending += u64::try_from(lag.end - limit.offset).unwrap_or(0);
            let ahead = &mut self.evidence.ahead;
            log::tally(self.ports.scan.as_ref(), limit.clone(), bounds.end, ahead).await?;
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
        for (symbol, hour) in self.evidence.suspects.clone() {
            let places = self.report.places.of(&symbol, hour);
            let (scan, query) = (self.ports.scan.as_ref(), self.ports.query.as_ref());
            let ids = hour::differing(scan, query, &symbol, hour, &places).await?;
            let differing = ids.into_iter().map(|id| ("tables", symbol.clone(), hour, id));
            self.evidence.differing.extend(differing);
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        let (hours, findings) = self.evidence.judge(self.scope);
        let broken = self.evidence.broken_hours(self.scope).into_iter();
        let damage = broken.map(|(symbol, hour)| Damage::Hour { symbol, hour });
        self.report.damage.extend(damage);
        self.report.hours = hours;
        self.report.findings.extend(findings);
        self.report
    }
}

async fn check(ports: &AuditPorts, piece: &Piece, first: i64) -> Result<Checked, AuditError> {
    let (scan, archive) = (ports.scan.as_ref(), ports.archive.as_ref());
    match piece {
        Piece::Trades(file, span) => file::check::<ArchivedTrade>(scan, archive, file, span, first).await,
        Piece::Raw(file, span) => file::check::<Record>(scan, archive, file, span, first).await,
        Piece::Bare(from, end) => {
            let mut checked = Checked::default();
            let from = Position { offset: from.offset.max(first), ..from.clone() };
            checked.unusable = log::tally(scan, from, *end, &mut checked.log).await?;
            Ok(checked)
        }
    }
}
