//! What happens between roles and servers: a proxy before the NameNode, and rules of the kernel's packet filter for
//! the others, whose clients find all nodes by themselves.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::pause;
use rand::Rng;

use crate::faults::{Acted, length};
use crate::proxy::Network;
use crate::scene::Scene;

/// Where brokers and Cassandra answer their clients.
const KAFKA: &[u16] = &[19_092, 29_092];
const CASSANDRA: &[u16] = &[9_042];
const ALL: &[u16] = &[19_092, 29_092, 9_042, 8_020, 9_866, 19_866];

/// The chain of our rules.
const CHAIN: &str = "FULLTAPE_DRILL";

/// Packets that arrive no more.
struct Firewall;

impl Firewall {
    fn raise() -> anyhow::Result<Self> {
        Self::lower();
        ensure!(filter(&["-N", CHAIN]) && filter(&["-I", "OUTPUT", "-j", CHAIN]), "iptables needs root on Linux");
        Ok(Self)
    }

    /// What servers on these ports say arrives no more, or only sometimes.
    fn drop_answers(ports: &[u16], more: &[&str]) -> anyhow::Result<()> {
        for port in ports {
            let port = port.to_string();
            let rule = ["-A", CHAIN, "-o", "lo", "-p", "tcp", "--sport", &port];
            ensure!(filter(&[&rule, more, &["-j", "DROP"]].concat()), "iptables refused a rule");
        }
        Ok(())
    }

    /// What servers on these ports say breaks the connection.
    fn reset(ports: &[u16]) -> anyhow::Result<()> {
        for port in ports {
            let port = port.to_string();
            let rule =
                ["-A", CHAIN, "-o", "lo", "-p", "tcp", "--sport", &port, "-j", "REJECT", "--reject-with", "tcp-reset"];
            ensure!(filter(&rule), "iptables refused a rule");
        }
        Ok(())
    }

    fn clear() {
        filter(&["-F", CHAIN]);
    }

    fn lower() {
        filter(&["-D", "OUTPUT", "-j", CHAIN]);
        filter(&["-F", CHAIN]);
        filter(&["-X", CHAIN]);
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        Self::lower();
    }
}

fn filter(arguments: &[&str]) -> bool {
    let output = Command::new("iptables").arg("-w").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// Whether there is a packet filter, and we may use it.
pub fn has_filter() -> bool {
    filter(&["-L", "OUTPUT", "-n"])
}

/// Takes away the rules that a drill which was killed has left.
pub fn clear_away() {
    Firewall::lower();
}

pub fn lost_answers(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for _ in 0..if scene.long { 20 } else { 5 } {
        scene.name_node.set(Network::LosesAnswers);
        pause(Duration::from_millis(rand::rng().random_range(500..3_000)));
        scene.name_node.set(Network::Works);
        pause(Duration::from_secs(2));
    }
    Ok(Acted::lasted(started))
}

pub fn bad_network(scene: &mut Scene) -> anyhow::Result<Acted> {
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

/// Appends are carried out, and nobody hears of it.
pub fn lost_acknowledgements(scene: &mut Scene) -> anyhow::Result<Acted> {
    lost(scene, KAFKA)
}

/// Rows are written, and nobody hears of it.
pub fn lost_writes(scene: &mut Scene) -> anyhow::Result<Acted> {
    lost(scene, CASSANDRA)
}

/// Answers are dropped for a while, and then the connections break that waited for them.
fn lost(scene: &mut Scene, ports: &[u16]) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let _firewall = Firewall::raise()?;
    for _ in 0..if scene.long { 20 } else { 5 } {
        Firewall::drop_answers(ports, &[])?;
        pause(Duration::from_millis(rand::rng().random_range(500..3_000)));
        Firewall::clear();
        Firewall::reset(ports)?;
        pause(Duration::from_millis(300));
        Firewall::clear();
        pause(Duration::from_secs(2));
    }
    Ok(Acted::lasted(started))
}

/// One packet in fifty is lost; then, to one server after the other, requests arrive and answers do not.
pub fn lossy_network(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let _firewall = Firewall::raise()?;
    Firewall::drop_answers(ALL, &["-m", "statistic", "--mode", "random", "--probability", "0.02"])?;
    pause(length(scene, (20, 120)));
    Firewall::clear();
    for port in ALL {
        Firewall::drop_answers(&[*port], &[])?;
        pause(length(scene, (5, 30)));
        Firewall::clear();
    }
    Ok(Acted::lasted(started))
}
