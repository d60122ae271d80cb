//! What the exchange does wrong, and other producers.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::{checkout, pause};

use crate::faults::{Acted, length};
use crate::scene::Scene;

/// Every record that is no trade becomes a dead letter, once, and nothing else suffers.
pub fn poison(scene: &mut Scene) -> anyhow::Result<Acted> {
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

pub fn dead_letters(scene: &Scene) -> anyhow::Result<u64> {
    let offsets = scene.cluster(&["kafka", "get-offsets", "--topic", "dead-letter"])?;
    offsets.lines().filter_map(|line| line.rsplit(':').next()).map(|end| Ok(end.trim().parse::<u64>()?)).sum()
}

pub fn stream_trouble(scene: &mut Scene) -> anyhow::Result<Acted> {
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

pub fn disorder(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    for _ in 0..10 {
        scene.exchange_fault(r#"{"kind":"duplicate","count":200}"#)?;
        scene.exchange_fault(r#"{"kind":"reorder","count":200}"#)?;
        pause(length(scene, (1, 5)));
    }
    Ok(Acted::lasted(started))
}
