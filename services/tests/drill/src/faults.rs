//! The faults: what each does to whom, and for how long.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::{checkout, pause};
use rand::Rng;

use crate::proxy::Network;
use crate::scene::{Role, Scene};
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
    fn lasted(started: Instant) -> Self {
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
        is_short: true,
        act: |s| kills(s, Role::Ingest),
    },
    Fault {
        name: "kill-processor",
        row: "2",
        what: "kill -9 of the processor again and again",
        is_short: true,
        act: |s| kills(s, Role::Processor),
    },
    Fault {
        name: "kill-archiver",
        row: "2, 3, 28",
        what: "kill -9 of the archiver again and again",
        is_short: true,
        act: |s| kills(s, Role::Archiver),
    },
    Fault {
        name: "zombie-processor",
        row: "4",
        what: "SIGSTOP beyond the session time-out, a second instance takes over",
        is_short: false,
        act: |s| zombie(s, Role::Processor),
    },
    Fault {
        name: "zombie-archiver",
        row: "4",
        what: "SIGSTOP beyond the session time-out, a second instance takes over",
        is_short: true,
        act: |s| zombie(s, Role::Archiver),
    },
    Fault {
        name: "rebalance-storm",
        row: "5",
        what: "an instance of each reader comes or goes every 5 s",
        is_short: false,
        act: rebalance_storm,
    },
    Fault {
        name: "kill-broker",
        row: "6",
        what: "kill -9 of each broker in turn, started again",
        is_short: true,
        act: |s| each(s, &["kafka-1", "kafka-2"], "KILL", lasting(5, 5)),
    },
    Fault {
        name: "stop-broker",
        row: "6",
        what: "SIGTERM of each broker in turn, started again",
        is_short: false,
        act: |s| each(s, &["kafka-1", "kafka-2"], "TERM", lasting(5, 5)),
    },
    Fault {
        name: "freeze-broker",
        row: "7",
        what: "SIGSTOP of a broker",
        is_short: false,
        act: |s| freeze(s, &["kafka-1"], lasting(30, 120)),
    },
    Fault {
        name: "all-brokers-down",
        row: "8",
        what: "kill -9 of both brokers",
        is_short: false,
        act: |s| down(s, &["kafka-1", "kafka-2"], lasting(30, 600)),
    },
    Fault { name: "poison", row: "13", what: "another producer appends what is no trade", is_short: true, act: poison },
    Fault {
        name: "stream-trouble",
        row: "14",
        what: "half-open, stall, serverShutdown, refused, limited, cut",
        is_short: true,
        act: stream_trouble,
    },
    Fault { name: "disorder", row: "15", what: "trades twice and out of order", is_short: true, act: disorder },
    Fault {
        name: "kill-cassandra",
        row: "17",
        what: "kill -9 of each Cassandra node in turn, started again",
        is_short: true,
        act: |s| each(s, &["cassandra-1", "cassandra-2"], "KILL", lasting(5, 20)),
    },
    Fault {
        name: "freeze-cassandra",
        row: "19",
        what: "SIGSTOP of a Cassandra node",
        is_short: false,
        act: |s| freeze(s, &["cassandra-2"], lasting(30, 60)),
    },
    Fault {
        name: "kill-namenode",
        row: "22",
        what: "kill -9 of the NameNode, started again",
        is_short: true,
        act: |s| each(s, &["namenode"], "KILL", lasting(5, 20)),
    },
    Fault { name: "safe-mode", row: "22", what: "the NameNode in safe mode", is_short: false, act: safe_mode },
    Fault {
        name: "freeze-namenode",
        row: "23",
        what: "SIGSTOP of the NameNode",
        is_short: false,
        act: |s| freeze(s, &["namenode"], lasting(30, 300)),
    },
    Fault {
        name: "lost-answers",
        row: "24",
        what: "the NameNode's answers do not arrive",
        is_short: true,
        act: lost_answers,
    },
    Fault {
        name: "bad-network",
        row: "30",
        what: "200 ms each way to the NameNode, then 2 kB/s, then nothing arrives",
        is_short: false,
        act: bad_network,
    },
    Fault {
        name: "kill-datanode",
        row: "26",
        what: "kill -9 of each DataNode in turn, started again",
        is_short: true,
        act: |s| each(s, &["datanode-1", "datanode-2"], "KILL", lasting(5, 20)),
    },
    Fault {
        name: "freeze-datanodes",
        row: "26",
        what: "SIGSTOP of both DataNodes",
        is_short: false,
        act: |s| freeze(s, &["datanode-1", "datanode-2"], lasting(30, 60)),
    },
    Fault { name: "quota", row: "27", what: "no room for the archive", is_short: false, act: quota },
];

/// How long something lasts: in the short set, and as the matrix has it.
type Lengths = (u64, u64);

const fn lasting(short: u64, long: u64) -> Lengths {
    (short, long)
}

fn length(scene: &Scene, (short, long): Lengths) -> Duration {
    Duration::from_secs(if scene.long { long } else { short })
}

fn kills(scene: &mut Scene, role: Role) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let times = if scene.long { 100 } else { 10 };
    let mut recoveries = Vec::new();
    for _ in 0..times {
        pause(Duration::from_millis(rand::rng().random_range(0..2_000)));
        recoveries.push(scene.kill_and_recover(role)?);
    }
    Ok(Acted { outage: started.elapsed(), recoveries })
}

/// The one that was stopped goes on when another has its partitions.
fn zombie(scene: &mut Scene, role: Role) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.start(role, 1)?;
    pause(Duration::from_secs(5));
    scene.signal(role, 0, "STOP")?;
    pause(length(scene, (20, 60)));
    scene.signal(role, 0, "CONT")?;
    pause(Duration::from_secs(5));
    scene.stop(role, 1)?;
    Ok(Acted::lasted(started))
}

fn rebalance_storm(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let until = length(scene, (60, 180));
    let mut more = Vec::new();
    while started.elapsed() < until {
        for role in [Role::Processor, Role::Archiver] {
            match more.iter().position(|(of, _)| *of == role).filter(|_| rand::rng().random_bool(0.5)) {
                Some(place) => {
                    let (role, nth) = more.swap_remove(place);
                    scene.kill(role, nth)?;
                }
                None => {
                    let nth = (1..4).find(|nth| !more.contains(&(role, *nth)));
                    if let Some(nth) = nth {
                        scene.start(role, nth)?;
                        more.push((role, nth));
                    }
                }
            }
        }
        pause(Duration::from_secs(5));
    }
    for (role, nth) in more {
        scene.stop(role, nth)?;
    }
    Ok(Acted::lasted(started))
}

/// One server after the other goes and comes back.
fn each(scene: &mut Scene, servers: &[&str], signal: &str, lengths: Lengths) -> anyhow::Result<Acted> {
    let mut outage = Duration::ZERO;
    for server in servers {
        let started = Instant::now();
        scene.cluster(&["kill", server, signal])?;
        pause(length(scene, lengths));
        scene.cluster(&["start", server])?;
        outage += started.elapsed();
    }
    Ok(Acted { outage, recoveries: Vec::new() })
}

/// All of some servers are away at the same time.
fn down(scene: &mut Scene, servers: &[&str], lengths: Lengths) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for server in servers {
        scene.cluster(&["kill", server])?;
    }
    pause(length(scene, lengths));
    for server in servers {
        scene.cluster(&["start", server])?;
    }
    Ok(Acted::lasted(started))
}

/// Servers that neither answer nor break the connection.
fn freeze(scene: &mut Scene, servers: &[&str], lengths: Lengths) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for server in servers {
        scene.cluster(&["kill", server, "STOP"])?;
    }
    pause(length(scene, lengths));
    for server in servers {
        scene.cluster(&["kill", server, "CONT"])?;
    }
    Ok(Acted::lasted(started))
}

/// Every record that is no trade becomes a dead letter, once, and nothing else suffers.
fn poison(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let before = dead_letters(scene)?;
    let poison = [
        "not json",
        "{}",
        "{\"e\":\"trade\"}",
        "{\"e\":\"trade\",\"E\":1723161255343,\"s\":\"BTCUSDT\",\"t\":1,\"p\":\"NaN\",\"q\":\"1\",\"T\":1723161255342,\"m\":true}",
        "{\"e\":\"trade\",\"E\":1,\"s\":\"BTCUSDT\",\"t\":-1,\"p\":\"1\",\"q\":\"1\",\"T\":99999999999999999,\"m\":true}",
    ];
    let times = 20;
    let mut child = Command::new(checkout().join("scripts/cluster"))
        .args(["kafka", "console-producer", "--topic", "crypto-stream"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().expect("its standard input is a pipe");
    for _ in 0..times {
        for line in poison {
            writeln!(input, "{line}")?;
        }
    }
    drop(input);
    ensure!(child.wait()?.success(), "the console producer failed");
    let expected = before + times * poison.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = dead_letters(scene)?;
        if now == expected {
            return Ok(Acted::lasted(started));
        }
        ensure!(now < expected && Instant::now() < deadline, "{now} dead letters, expected {expected}");
    }
}

fn dead_letters(scene: &Scene) -> anyhow::Result<u64> {
    let offsets = scene.cluster(&["kafka", "get-offsets", "--topic", "dead-letter"])?;
    offsets.lines().filter_map(|line| line.rsplit(':').next()).map(|end| Ok(end.trim().parse::<u64>()?)).sum()
}

fn stream_trouble(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for fault in [
        r#"{"kind":"half_open"}"#,
        r#"{"kind":"stall","seconds":5}"#,
        r#"{"kind":"server_shutdown"}"#,
        r#"{"kind":"refuse","seconds":5}"#,
        r#"{"kind":"limit","seconds":5}"#,
        r#"{"kind":"skip","count":500}"#,
        r#"{"kind":"malformed","count":20}"#,
        r#"{"kind":"cut"}"#,
    ] {
        scene.exchange_fault(fault)?;
        pause(length(scene, (8, 40)));
    }
    Ok(Acted::lasted(started))
}

fn disorder(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for _ in 0..10 {
        scene.exchange_fault(r#"{"kind":"duplicate","count":200}"#)?;
        scene.exchange_fault(r#"{"kind":"reorder","count":200}"#)?;
        pause(length(scene, (1, 5)));
    }
    Ok(Acted::lasted(started))
}

fn safe_mode(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.cluster(&["hdfs", "dfsadmin", "-safemode", "enter"])?;
    pause(length(scene, (20, 60)));
    scene.cluster(&["hdfs", "dfsadmin", "-safemode", "leave"])?;
    Ok(Acted::lasted(started))
}

fn quota(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.cluster(&["hdfs", "dfsadmin", "-setSpaceQuota", "1", "/crypto_data"])?;
    pause(length(scene, (20, 60)));
    scene.cluster(&["hdfs", "dfsadmin", "-clrSpaceQuota", "/crypto_data"])?;
    Ok(Acted::lasted(started))
}

fn lost_answers(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for _ in 0..if scene.long { 20 } else { 5 } {
        scene.name_node.set(Network::LosesAnswers);
        pause(Duration::from_millis(rand::rng().random_range(500..3_000)));
        scene.name_node.set(Network::Works);
        pause(Duration::from_secs(2));
    }
    Ok(Acted::lasted(started))
}

fn bad_network(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for network in
        [Network::Delays(Duration::from_millis(200)), Network::Drips(2_000), Network::Swallows, Network::IsDown]
    {
        scene.name_node.set(network);
        pause(length(scene, (10, 60)));
    }
    scene.name_node.set(Network::Works);
    Ok(Acted::lasted(started))
}
