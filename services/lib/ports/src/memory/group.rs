//! A consumer group: who reads what.
//!
//! Rebalances are eager: whenever a member joins or leaves, all let go of everything, then the
//! partitions are given out anew, by range.
//!
//! ```text
//!   join, leave, shake ──▶ revoke all ──▶ all let go, or patience is over ──▶ assign all
//!                                           who did not is expelled: a zombie, until it asks again
//! ```

use std::collections::BTreeMap;

use domain::{Topic, TopicPartition};
use tokio::time::Instant;

/// A group of readers.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<u64, Member>,
    joined: u64,
    rotation: usize,
    /// While partitions are being taken back: until when the group waits for it.
    until: Option<Instant>,
    pub(super) committed: BTreeMap<TopicPartition, i64>,
    /// How many members did not let go in time.
    pub(super) expelled: usize,
}

struct Member {
    topics: Vec<Topic>,
    /// What it has been told to be its own, and has not let go of.
    owned: Vec<TopicPartition>,
    to_assign: Option<Vec<TopicPartition>>,
    to_revoke: bool,
}

/// What a member is to be told.
pub(super) enum News {
    Nothing,
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    /// The group went on without it.
    Expelled,
}

/// The partitions of each topic.
pub(super) type Partitions = BTreeMap<Topic, usize>;

impl Group {
    /// A new member; its number.
    pub(super) fn join(&mut self, topics: &[Topic], until: Instant) -> u64 {
        self.joined += 1;
        let member = Member { topics: topics.to_vec(), owned: Vec::new(), to_assign: None, to_revoke: false };
        self.members.insert(self.joined, member);
        self.shake(until);
        self.joined
    }

    /// A member goes, and with it all that it owned.
    pub(super) fn leave(&mut self, member: u64, until: Instant) {
        if self.members.remove(&member).is_some() {
            self.shake(until);
        }
    }

    /// Gives the partitions out anew, in another order of members.
    pub(super) fn rotate(&mut self, by: usize, until: Instant) {
        self.rotation = by;
        self.shake(until);
    }

    fn shake(&mut self, until: Instant) {
        if self.until.is_some() {
            return;
        }
        self.until = Some(until);
        for member in self.members.values_mut() {
            member.to_assign = None;
            member.to_revoke = !member.owned.is_empty();
        }
    }

    /// A member has let go of what it was asked to.
    pub(super) fn released(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.owned.clear();
        }
    }

    /// Ends a rebalance if all have let go, or if it is time; whether it did.
    pub(super) fn settle(&mut self, now: Instant, partitions: &Partitions) -> bool {
        let Some(until) = self.until else { return false };
        let all_let_go = self.members.values().all(|member| member.owned.is_empty());
        if !all_let_go && now < until {
            return false;
        }
        let before = self.members.len();
        self.members.retain(|_, member| member.owned.is_empty());
        self.expelled += before - self.members.len();
        self.until = None;
        self.assign(partitions);
        true
    }

    fn assign(&mut self, partitions: &Partitions) {
        for (topic, count) in partitions {
            let mut members: Vec<&mut Member> =
                self.members.values_mut().filter(|member| member.topics.contains(topic)).collect();
            if members.is_empty() {
                continue;
            }
            let among = members.len();
            members.rotate_left(self.rotation % among);
            for (n, member) in members.into_iter().enumerate() {
                let range = n * count / among..(n + 1) * count / among;
                let places = range.filter_map(|p| i32::try_from(p).ok()).map(|p| TopicPartition::new(topic.clone(), p));
                member.to_assign.get_or_insert_default().extend(places);
            }
        }
        self.members
            .values_mut()
            .for_each(|member| member.to_assign = member.to_assign.take().filter(|p| !p.is_empty()));
    }

    /// What a member is to be told now.
    pub(super) fn news(&mut self, member: u64) -> News {
        let Some(member) = self.members.get_mut(&member) else { return News::Expelled };
        if std::mem::take(&mut member.to_revoke) {
            return News::Revoked(member.owned.clone());
        }
        match member.to_assign.take() {
            Some(partitions) => {
                member.owned.clone_from(&partitions);
                News::Assigned(partitions)
            }
            None => News::Nothing,
        }
    }

    /// Until when the group waits for members that have not let go.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.until
    }
}
