//! Several members of one group.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Record, TopicPartition};
use tokio::time::Instant;

use super::member::{Member, PATIENCE, QUIET};
use super::read::complete;
use super::{LogUnderTest, append, run};

/// A second member gets partitions only after the first has let go of them; both together read
/// everything, each record once.
pub async fn members_share_without_loss(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let mut written = run(&topic, "before", 150);
    append(log, written.clone()).await;
    let mut first = Member::join(log, "shared", &topic).await;
    first.read(150).await;
    let all: Vec<TopicPartition> = first.owned.keys().cloned().collect();

    first.holds_on = true;
    let mut second = Member::join_group(log, &first.group, &topic).await;
    drive(&mut [&mut first, &mut second], "partitions to be revoked", |members| !members[0].held.is_empty()).await;
    let until = Instant::now() + QUIET;
    while Instant::now() < until {
        first.step(STEP).await;
        second.step(STEP).await;
        let early = first.held.iter().flat_map(|held| held.partitions()).find(|at| second.owned.contains_key(at));
        assert_eq!(early, None, "a partition was given away before it was let go");
    }
    first.holds_on = false;
    first.held.drain(..).for_each(|revocation| revocation.done());
    drive(&mut [&mut first, &mut second], "two members to have some partitions each", |members| shared(members, &all))
        .await;

    let more = run(&topic, "shared", 300);
    append(log, more.clone()).await;
    written.extend(more);
    let read_all = |members: &[&mut Member]| read(members) >= written.len();
    drive(&mut [&mut first, &mut second], "two members to read everything", read_all).await;
    complete(&sorted([first.records, second.records].concat()), &written, "two members together");
}

/// When a member leaves, the other one gets its partitions and goes on where the sink says.
pub async fn a_member_that_leaves_is_replaced(log: &dyn LogUnderTest) {
    let topic = log.topic().await;
    let mut written = run(&topic, "both", 90);
    append(log, written.clone()).await;
    let mut first = Member::join(log, "leaving", &topic).await;
    first.assigned().await;
    let all: Vec<TopicPartition> = first.owned.keys().cloned().collect();
    let mut second = Member::join_group(log, &first.group, &topic).await;
    drive(&mut [&mut first, &mut second], "two members to have some partitions each", |members| shared(members, &all))
        .await;

    second.records.append(&mut first.records);
    drop(first);
    let more = run(&topic, "alone", 90);
    append(log, more.clone()).await;
    written.extend(more);
    drive(&mut [&mut second], "the member that stayed to read everything", |members| read(members) >= written.len())
        .await;
    complete(&sorted(second.records), &written, "the member that stayed");
}

const STEP: Duration = Duration::from_millis(50);

/// Lets members take what comes, one after the other, until something is so.
async fn drive(members: &mut [&mut Member], what: &str, is_so: impl Fn(&[&mut Member]) -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so(members) {
        for n in 0..members.len() {
            members[n].step(STEP).await;
            share_positions(members);
        }
        assert!(Instant::now() < give_up, "waited in vain for {what}");
    }
}

/// Positions live in the sink: what one member has read, no other reads again.
fn share_positions(members: &mut [&mut Member]) {
    let mut sink: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (at, next) in members.iter().flat_map(|member| member.starts.iter().chain(&member.owned)) {
        let known = sink.entry(at.clone()).or_insert(*next);
        *known = (*known).max(*next);
    }
    members.iter_mut().for_each(|member| member.starts.clone_from(&sink));
}

/// Whether each of the partitions belongs to one of the members, and each member has some.
fn shared(members: &[&mut Member], all: &[TopicPartition]) -> bool {
    let owners = |at: &TopicPartition| members.iter().filter(|member| member.owned.contains_key(at)).count();
    members.iter().all(|member| !member.owned.is_empty()) && all.iter().all(|at| owners(at) == 1)
}

fn read(members: &[&mut Member]) -> usize {
    members.iter().map(|member| member.records.len()).sum()
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(Record::position);
    records
}
