//! What happens to the roles.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::pause;
use rand::Rng;

use crate::faults::{Acted, length};
use crate::proxy::Network;
use crate::scene::{Role, Scene};

pub fn kills(scene: &mut Scene, role: Role) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let times = if scene.long { 100 } else { 10 };
    let mut recoveries = Vec::new();
    for _ in 0..times {
        pause(Duration::from_millis(rand::rng().random_range(0..2_000)));
        recoveries.push(scene.kill_and_recover(role)?);
    }
    Ok(Acted { outage: started.elapsed(), recoveries })
}

/// The one that was stopped goes on when another has its partitions, and all is well without it.
pub fn zombie(scene: &mut Scene, role: Role) -> anyhow::Result<Acted> {
    let started = Instant::now();
    scene.start(role, 1)?;
    pause(Duration::from_secs(5));
    scene.signal(role, 0, "STOP")?;
    pause(length(scene, (20, 60)));
    let took_over = scene.until_works(role, 1).and_then(|_| scene.recovered());
    scene.signal(role, 0, "CONT")?;
    took_over?;
    pause(Duration::from_secs(5));
    scene.stop(role, 1)?;
    Ok(Acted::lasted(started))
}

pub fn rebalance_storm(scene: &mut Scene) -> anyhow::Result<Acted> {
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

/// A second ingest stands by and takes over when the first is killed; then they change places.
pub fn standby(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let mut recoveries = Vec::new();
    for nth in 0..if scene.long { 20 } else { 4 } {
        let (works, waits) = (nth % 2, 1 - nth % 2);
        scene.start(Role::Ingest, waits)?;
        pause(Duration::from_secs(3));
        ensure!(!scene.works(Role::Ingest, waits), "two ingests work at the same time");
        scene.kill(Role::Ingest, works)?;
        recoveries.push(scene.until_works(Role::Ingest, waits)?);
    }
    Ok(Acted { outage: started.elapsed(), recoveries })
}

/// The roles' clocks are an hour ahead, an hour behind, half a second off: each of them in turn.
pub fn clock_steps(scene: &mut Scene) -> anyhow::Result<Acted> {
    let library = ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketime.so.1"));
    let library = library.into_iter().find(|path| std::path::Path::new(path).exists());
    let library = library.context("libfaketime is not installed: apt-get install faketime")?;
    let started = Instant::now();
    for (nth, step) in ["+1h", "-1h", "+0.5s", "-0.5s"].into_iter().enumerate() {
        let environment = [("LD_PRELOAD", library.as_str()), ("FAKETIME", step), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        for role in Role::ALL {
            match nth % 2 {
                0 => scene.kill(role, 0)?,
                _ => scene.stop(role, 0)?,
            }
            scene.start_in(&environment, role, 0)?;
        }
        pause(length(scene, (12, 60)));
    }
    for role in Role::ALL {
        scene.stop(role, 0)?;
        scene.start(role, 0)?;
    }
    Ok(Acted::lasted(started))
}

/// No file or socket more can be opened; then no processor time is left.
pub fn squeezed(scene: &mut Scene) -> anyhow::Result<Acted> {
    let started = Instant::now();
    let limits = |limit: &str, id: u32| -> anyhow::Result<()> {
        let set = Command::new("prlimit").args(["--pid", &id.to_string(), &format!("--nofile={limit}:")]).status()?;
        ensure!(set.success(), "prlimit failed");
        Ok(())
    };
    for role in Role::ALL {
        let id = scene.id(role, 0)?;
        limits("8", id)?;
        // Connections break, so that new ones are needed.
        scene.name_node.set(Network::IsDown);
        scene.exchange_fault(r#"{"kind":"cut"}"#)?;
        pause(Duration::from_secs(1));
        scene.name_node.set(Network::Works);
        pause(length(scene, (8, 30)));
        limits("1024", id)?;
    }
    let hogs: Vec<Hog> = (0..12).map(|_| Hog::start()).collect::<anyhow::Result<_>>()?;
    pause(length(scene, (20, 120)));
    drop(hogs);
    Ok(Acted::lasted(started))
}

/// A process that wants a core for itself.
struct Hog(Child);

impl Hog {
    fn start() -> anyhow::Result<Self> {
        Ok(Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // It may have ended already, which is all that is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
