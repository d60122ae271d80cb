//! The faults: what each does to whom, and for how long.

use std::time::{Duration, Instant};

use crate::exchange::{disorder, poison, stream_trouble};
use crate::network::{bad_network, lossy_network, lost_acknowledgements, lost_answers, lost_writes};
use crate::roles::{clock_steps, kills, rebalance_storm, squeezed, standby, zombie};
use crate::scene::{Role, Scene};
use crate::servers::{down, each, flipped_bit, freeze, idle_producer, quota, safe_mode, schema_change};
use crate::table::seconds;

/// Something that goes wrong.
pub struct Fault {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its rows in the fault matrix.
    pub row: &'static str,
    /// What is done, in a line.
    pub what: &'static str,
    /// Whether it is part of the short set.
    pub is_short: bool,
    /// Whether it needs the kernel's packet filter.
    pub needs_filter: bool,
    /// Does it, and undoes it.
    pub act: fn(&mut Scene) -> anyhow::Result<Acted>,
}

/// What was done.
pub struct Acted {
    /// How long it lasted.
    pub outage: Duration,
    /// How long each of several recoveries took, if they were measured one by one.
    pub recoveries: Vec<Duration>,
}

impl Acted {
    /// Something that was one outage.
    pub fn lasted(started: Instant) -> Self {
        Self { outage: started.elapsed(), recoveries: Vec::new() }
    }

    /// The recoveries that were measured one by one.
    pub fn recovery(&self) -> Option<String> {
        let mut sorted = self.recoveries.clone();
        sorted.sort();
        let at = |part: f64| sorted.get(((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1)).copied();
        let (half, most) = at(0.5).zip(at(0.99))?;
        Some(format!("p50 {}, p99 {} ({})", seconds(half), seconds(most), sorted.len()))
    }
}

/// All faults.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "kill-ingest",
        row: "1",
        what: "kill -9 of ingest again and again",
        is_short: false,
        needs_filter: false,
        act: |s| kills(s, Role::Ingest),
    },
    Fault {
        name: "kill-processor",
        row: "2",
        what: "kill -9 of the processor again and again",
        is_short: false,
        needs_filter: false,
        act: |s| kills(s, Role::Processor),
    },
    Fault {
        name: "kill-archiver",
        row: "2, 3, 28",
        what: "kill -9 of the archiver again and again",
        is_short: false,
        needs_filter: false,
        act: |s| kills(s, Role::Archiver),
    },
    Fault {
        name: "standby-ingest",
        row: "1",
        what: "kill -9 of ingest while a second one stands by",
        is_short: true,
        needs_filter: false,
        act: standby,
    },
    Fault {
        name: "zombie-ingest",
        row: "4",
        what: "SIGSTOP beyond the session time-out, a second instance takes over",
        is_short: false,
        needs_filter: false,
        act: |s| zombie(s, Role::Ingest),
    },
    Fault {
        name: "zombie-processor",
        row: "4",
        what: "SIGSTOP beyond the session time-out, a second instance takes over",
        is_short: false,
        needs_filter: false,
        act: |s| zombie(s, Role::Processor),
    },
    Fault {
        name: "zombie-archiver",
        row: "4",
        what: "SIGSTOP beyond the session time-out, a second instance takes over",
        is_short: true,
        needs_filter: false,
        act: |s| zombie(s, Role::Archiver),
    },
    Fault {
        name: "rebalance-storm",
        row: "5",
        what: "an instance of each reader comes or goes every 5 s",
        is_short: false,
        needs_filter: false,
        act: rebalance_storm,
    },
    Fault {
        name: "kill-broker",
        row: "6",
        what: "kill -9 of each broker in turn, started again",
        is_short: true,
        needs_filter: false,
        act: |s| each(s, &["kafka-1", "kafka-2"], "KILL", lasting(5, 5)),
    },
    Fault {
        name: "stop-broker",
        row: "6",
        what: "SIGTERM of each broker in turn, started again",
        is_short: false,
        needs_filter: false,
        act: |s| each(s, &["kafka-1", "kafka-2"], "TERM", lasting(5, 5)),
    },
    Fault {
        name: "freeze-broker",
        row: "7",
        what: "SIGSTOP of a broker",
        is_short: false,
        needs_filter: false,
        act: |s| freeze(s, &["kafka-1"], lasting(30, 120)),
    },
    Fault {
        name: "all-brokers-down",
        row: "8",
        what: "kill -9 of both brokers",
        is_short: false,
        needs_filter: false,
        act: |s| down(s, &["kafka-1", "kafka-2"], lasting(30, 600)),
    },
    Fault {
        name: "lost-acks",
        row: "9",
        what: "the brokers' answers do not arrive, connections break",
        is_short: true,
        needs_filter: true,
        act: lost_acknowledgements,
    },
    Fault {
        name: "idle-producer",
        row: "10",
        what: "a silent stream, and brokers that forget producers after 2 s",
        is_short: false,
        needs_filter: false,
        act: idle_producer,
    },
    Fault {
        name: "poison",
        row: "13",
        what: "another producer appends what is no trade",
        is_short: false,
        needs_filter: false,
        act: poison,
    },
    Fault {
        name: "stream-trouble",
        row: "14",
        what: "half-open, stall, serverShutdown, refused, limited, cut",
        is_short: false,
        needs_filter: false,
        act: stream_trouble,
    },
    Fault {
        name: "disorder",
        row: "15",
        what: "trades twice and out of order",
        is_short: false,
        needs_filter: false,
        act: disorder,
    },
    Fault {
        name: "clock-steps",
        row: "16",
        what: "the roles' clocks 1 h ahead, 1 h behind, 500 ms off",
        is_short: false,
        needs_filter: false,
        act: clock_steps,
    },
    Fault {
        name: "kill-cassandra",
        row: "17",
        what: "kill -9 of each Cassandra node in turn, started again",
        is_short: false,
        needs_filter: false,
        act: |s| each(s, &["cassandra-1", "cassandra-2"], "KILL", lasting(5, 20)),
    },
    Fault {
        name: "freeze-cassandra",
        row: "19",
        what: "SIGSTOP of a Cassandra node",
        is_short: false,
        needs_filter: false,
        act: |s| freeze(s, &["cassandra-2"], lasting(30, 60)),
    },
    Fault {
        name: "lost-writes",
        row: "20",
        what: "Cassandra's answers do not arrive, connections break",
        is_short: true,
        needs_filter: true,
        act: lost_writes,
    },
    Fault {
        name: "schema-change",
        row: "21",
        what: "a column is added and dropped",
        is_short: false,
        needs_filter: false,
        act: schema_change,
    },
    Fault {
        name: "kill-namenode",
        row: "22",
        what: "kill -9 of the NameNode, started again",
        is_short: true,
        needs_filter: false,
        act: |s| each(s, &["namenode"], "KILL", lasting(5, 20)),
    },
    Fault {
        name: "safe-mode",
        row: "22",
        what: "the NameNode in safe mode",
        is_short: false,
        needs_filter: false,
        act: safe_mode,
    },
    Fault {
        name: "freeze-namenode",
        row: "23",
        what: "SIGSTOP of the NameNode",
        is_short: false,
        needs_filter: false,
        act: |s| freeze(s, &["namenode"], lasting(30, 300)),
    },
    Fault {
        name: "lost-answers",
        row: "24",
        what: "the NameNode's answers do not arrive",
        is_short: true,
        needs_filter: false,
        act: lost_answers,
    },
    Fault {
        name: "bad-network",
        row: "30",
        what: "200 ms each way to the NameNode, then 2 kB/s, then nothing arrives",
        is_short: false,
        needs_filter: false,
        act: bad_network,
    },
    Fault {
        name: "kill-datanode",
        row: "26",
        what: "kill -9 of each DataNode in turn, started again",
        is_short: false,
        needs_filter: false,
        act: |s| each(s, &["datanode-1", "datanode-2"], "KILL", lasting(5, 20)),
    },
    Fault {
        name: "freeze-datanodes",
        row: "26",
        what: "SIGSTOP of both DataNodes",
        is_short: false,
        needs_filter: false,
        act: |s| freeze(s, &["datanode-1", "datanode-2"], lasting(30, 60)),
    },
    Fault {
        name: "quota",
        row: "27",
        what: "no room for the archive",
        is_short: false,
        needs_filter: false,
        act: quota,
    },
    Fault {
        name: "flipped-bit",
        row: "29",
        what: "a bit of a block in one replica, then in both",
        is_short: true,
        needs_filter: false,
        act: flipped_bit,
    },
    Fault {
        name: "lossy-network",
        row: "30",
        what: "2 % of all answers are lost, then all answers of each server in turn",
        is_short: false,
        needs_filter: true,
        act: lossy_network,
    },
    Fault {
        name: "squeeze",
        row: "31",
        what: "no file can be opened, then no processor time is left",
        is_short: false,
        needs_filter: false,
        act: squeezed,
    },
];

/// How long something lasts: in the short set, and as the matrix has it.
pub type Lengths = (u64, u64);

const fn lasting(short: u64, long: u64) -> Lengths {
    (short, long)
}

/// How long something lasts now.
pub fn length(scene: &Scene, (short, long): Lengths) -> Duration {
    Duration::from_secs(if scene.long { long } else { short })
}
