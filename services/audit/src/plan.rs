//! What there is to compare: the files of each partition's chains, and the stretches without any.

use columns::{Footer, Span};
use domain::lake::PartName;
use domain::{Position, TopicPartition};
use ports::{Archive, PortError};

use crate::chain::{ArchiveFile, Chain, footer};
use crate::proofs::{FileProof, Proofs};
use crate::report::{Damage, Finding};
use crate::snapshot::Lag;
use crate::{AuditError, UNREADABLE};

/// A stretch of one partition.
#[derive(Clone, Debug)]
pub enum Stretch {
    /// A file that is proved to be what the log makes of its span.
    Proved(PartName, FileProof),
    /// A file that has to be compared.
    File(ArchiveFile, Span),
    /// Offsets that no file covers, or one that cannot be read.
    Bare(Position, i64),
}

/// The stretches of one dataset and partition, in order.
#[derive(Debug)]
pub struct Plan {
    /// Which partition.
    pub at: TopicPartition,
    /// What is to be compared.
    pub stretches: Vec<Stretch>,
    /// Where the last of them ends.
    pub end: Option<i64>,
    /// What is wrong with the chain.
    pub findings: Vec<Finding>,
    /// How to mend that.
    pub damage: Vec<Damage>,
}

/// A file, where it ends, and why it cannot be read, if it cannot.
struct Link {
    file: ArchiveFile,
    end: i64,
    state: State,
}

enum State {
    Proved(FileProof),
    Unproved(Span),
    Unreadable(String),
}

/// Lays out one partition's files of a dataset, those that end at or before `limit`.
///
/// # Errors
/// If the archive cannot be read.
pub async fn plan(
    archive: &dyn Archive,
    chain: &Chain,
    proofs: Option<&Proofs>,
    lag: &Lag,
    limit: i64,
) -> Result<Plan, AuditError> {
    let links = links(archive, chain, proofs, lag.at.partition).await?;
    let mut plan = Plan::of(lag.at.clone());
    for link in links {
        let expected = plan.end.unwrap_or(lag.first);
        let start = link.file.name.start_offset;
        if let State::Unreadable(reason) = &link.state {
            plan.unreadable(&link.file, link.end, reason);
        }
        if link.end > limit {
            continue;
        }
        if plan.end.is_some() && start < expected {
            plan.overlap(&link, expected);
            continue;
        }
        if start > expected {
            plan.hole(&link.file, expected);
        }
        plan.end = Some(link.end);
        plan.stretches.push(match link.state {
            State::Proved(proof) => Stretch::Proved(link.file.name, proof),
            State::Unproved(span) => Stretch::File(link.file, span),
            State::Unreadable(_) => Stretch::Bare(Position { at: lag.at.clone(), offset: start }, link.end),
        });
    }
    Ok(plan)
}

async fn links(
    archive: &dyn Archive,
    chain: &Chain,
    proofs: Option<&Proofs>,
    partition: i32,
) -> Result<Vec<Link>, AuditError> {
    let mut links: Vec<Link> = Vec::new();
    let (mut read, mut unread, mut last_error) = (0, 0, None);
    for file in chain.of(partition) {
        // Where an unreadable file ended, the next one starts.
        if let Some(Link { end, state: State::Unreadable(_), .. }) = links.last_mut() {
            *end = file.name.start_offset;
        }
        let file = file.clone();
        let proof = proofs.and_then(|proofs| proofs.file(&file.name, file.length)).cloned();
        let (end, state) = match proof {
            Some(proof) => (proof.end, State::Proved(proof)),
            None => match footer(archive, &file).await {
                // One is damaged. If all are, it is the servers, and nothing is known.
                Err(error @ PortError::Unavailable { .. }) if read > 0 || unread < UNREADABLE => {
                    unread += 1;
                    let reason = error.to_string();
                    last_error = Some(error);
                    (i64::MAX, State::Unreadable(reason))
                }
                footer => {
                    read += 1;
                    match footer? {
                        Ok(Footer { span, .. }) => (span.end, State::Unproved(span)),
                        Err(error) => (i64::MAX, State::Unreadable(error.to_string())),
                    }
                }
            },
        };
        links.push(Link { file, end, state });
    }
    match last_error {
        Some(error) if read == 0 => Err(error.into()),
        _ => Ok(links),
    }
}

impl Plan {
    fn of(at: TopicPartition) -> Self {
        Self { at, stretches: Vec::new(), end: None, findings: Vec::new(), damage: Vec::new() }
    }

    fn unreadable(&mut self, file: &ArchiveFile, end: i64, reason: &str) {
        let finding = Finding::Damaged { file: file.name.to_string(), reason: reason.to_owned() };
        self.findings.push(finding);
        self.damage.push(Damage::File { name: file.name.clone(), end: Some(end).filter(|end| *end != i64::MAX) });
    }

    fn hole(&mut self, file: &ArchiveFile, expected: i64) {
        let (start, path) = (file.name.start_offset, file.name.to_string());
        self.findings.push(Finding::BrokenChain { file: path, expected_start: expected, start });
        let from = Position { at: self.at.clone(), offset: expected };
        let dataset = file.name.dataset.clone();
        self.damage.push(Damage::Hole { dataset, from: from.clone(), end: start });
        self.stretches.push(Stretch::Bare(from, start));
    }

    /// A file that covers again what the one before it has: only what it alone covers counts.
    fn overlap(&mut self, link: &Link, expected: i64) {
        let (start, path) = (link.file.name.start_offset, link.file.name.to_string());
        self.findings.push(Finding::BrokenChain { file: path, expected_start: expected, start });
        self.damage.push(Damage::Overlap { name: link.file.name.clone() });
        if link.end > expected {
            self.end = Some(link.end);
            self.stretches.push(Stretch::Bare(Position { at: self.at.clone(), offset: expected }, link.end));
        }
    }
}
