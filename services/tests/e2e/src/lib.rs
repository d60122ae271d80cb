//! What the end-to-end tests share: they run the built binary as its users do, and let independent
//! readers look at what it leaves.
//!
//! `scripts/test` sets what they need; run by hand, a test that lacks something says so and ends.

pub mod cluster;
pub mod market;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use domain::{Timestamp, Trade};
use serde_json::Value;

/// The binary under test: `FULLTAPE_BIN`, or the one built beside this test.
#[must_use]
pub fn binary() -> PathBuf {
    setting("FULLTAPE_BIN").map_or_else(beside_the_test, PathBuf::from)
}

fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let binary = profile.join("fulltape");
    assert!(binary.exists(), "{} is not built: cargo build --release --workspace", binary.display());
    binary
}

/// The checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(3).expect("this crate is services/tests/e2e").to_owned()
}

/// A variable of the environment.
#[expect(clippy::disallowed_methods, reason = "tests are configured by their script")]
#[must_use]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of recorded data, `FULLTAPE_TEST_DATA`; says so if there is none.
#[must_use]
pub fn recordings() -> Option<PathBuf> {
    let folder = setting("FULLTAPE_TEST_DATA").map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no recorded data in {}; FULLTAPE_TEST_DATA names the folder", folder.display());
    None
}

/// A Python with pyarrow, `FULLTAPE_TEST_PYTHON`; says so if there is none.
#[must_use]
pub fn python() -> Option<String> {
    let python = setting("FULLTAPE_TEST_PYTHON");
    if python.is_none() {
        println!("skipped: FULLTAPE_TEST_PYTHON does not name a Python with pyarrow");
    }
    python
}

/// Runs the binary to its end; everything it prints is kept.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn fulltape<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Run {
    let mut command = Command::new(binary());
    Run(command.args(arguments).env("NO_COLOR", "1").output().expect("the binary can be started"))
}

/// A finished run.
pub struct Run(pub Output);

impl Run {
    /// Its exit status; -1 after a signal.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// What it printed to standard output.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// What it printed to standard error.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Expects an exit status.
    ///
    /// # Panics
    /// If it was another.
    #[must_use]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status(), status, "output:\n{}\nerrors:\n{}", self.out(), self.err());
        self
    }
}

/// A running process of the binary, killed with the test.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the binary; what it prints is appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start<S: AsRef<std::ffi::OsStr>>(arguments: &[S], log: &Path) -> Self {
        Self::start_in(&[], arguments, log)
    }

    /// Starts the binary with more in its environment.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_in<S: AsRef<std::ffi::OsStr>>(environment: &[(&str, &str)], arguments: &[S], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let mut command = Command::new(binary());
        command.args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Self { child: command.spawn().expect("the binary can be started"), log: log.to_owned() }
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it has ended by itself before.
    pub fn kill(mut self) {
        assert!(self.child.try_wait().expect("a child").is_none(), "ended by itself:\n{}", self.tail());
        self.child.kill().expect("a running child");
        self.child.wait().expect("a child");
    }

    /// Whether it has not ended by itself.
    ///
    /// # Panics
    /// If the operating system has lost it.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal that does not end it, by name.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn send(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }

    /// Sends a signal by name, and waits for the end; `None` if it has not ended within `patience`.
    ///
    /// # Panics
    /// If it has ended before.
    #[must_use]
    pub fn signal(mut self, name: &str, patience: Duration) -> Option<ExitStatus> {
        assert!(self.child.try_wait().expect("a child").is_none(), "ended by itself:\n{}", self.tail());
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
        self.ends(patience)
    }

    /// Waits until it ends by itself; `None` if it has not within `patience`.
    ///
    /// # Panics
    /// If the operating system has lost it.
    #[must_use]
    pub fn ends(mut self, patience: Duration) -> Option<ExitStatus> {
        let mut ended = None;
        wait_for(patience, || {
            ended = self.child.try_wait().expect("a child");
            ended.is_some()
        });
        ended
    }

    fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until something holds; false if it never did within `patience`.
pub fn wait_for(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        pause(Duration::from_millis(50));
    }
}

/// Lets real time pass, where the passing of time is the test.
#[expect(clippy::disallowed_methods, reason = "other processes run meanwhile")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The audit's report.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn audit<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> (i32, Value) {
    let mut all = vec!["audit".as_ref(), "--json".as_ref()];
    all.extend(arguments.iter().map(AsRef::as_ref));
    let run = fulltape(&all);
    let report = serde_json::from_slice(&run.0.stdout);
    (run.status(), report.unwrap_or_else(|error| panic!("{error}: {}\n{}", run.out(), run.err())))
}

/// The sum of one figure over all hours of a report.
///
/// # Panics
/// If the report has no such figure.
#[must_use]
pub fn total(report: &Value, figure: &str) -> u64 {
    let hours = report["hours"].as_array().expect("a report has hours");
    hours.iter().map(|hour| hour[figure].as_u64().unwrap_or_else(|| panic!("no {figure} in {hour}"))).sum()
}

/// What `readers/figures.py` prints.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn read_independently<S: AsRef<std::ffi::OsStr>>(python: &str, arguments: &[S]) -> String {
    let script = checkout().join("services/tests/e2e/readers/figures.py");
    let output = Command::new(python).arg(script).args(arguments).output().expect("Python can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the readers print text")
}

/// The same, as JSON.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn figures<S: AsRef<std::ffi::OsStr>>(python: &str, arguments: &[S]) -> Value {
    serde_json::from_str(&read_independently(python, arguments)).expect("the readers print JSON")
}

/// A trade in a row that another program printed: symbol, id, price, quantity, trade time in µs, and whether the
/// buyer's order was the resting one.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn trade_of(row: &str, separator: char) -> Trade {
    let cells: Vec<&str> = row.trim().split(separator).collect();
    let [symbol, id, price, quantity, time, maker] = cells[..] else { panic!("expected six cells: {row:?}") };
    Trade {
        symbol: symbol.parse().expect("a symbol"),
        id: id.parse().expect("an id"),
        price: price.parse().expect("a price"),
        quantity: quantity.parse().expect("a quantity"),
        trade_time: Timestamp::from_micros(time.parse().expect("a time in µs")),
        event_time: None,
        buyer_is_maker: maker == "1" || maker.eq_ignore_ascii_case("true"),
    }
}

/// A port on loopback that was free a moment ago.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// The body of `GET http://address/path`.
///
/// # Errors
/// If nobody answers.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
}

/// The body of the answer to `POST http://address/path` with some JSON.
///
/// # Errors
/// If nobody answers.
pub fn post(address: SocketAddr, path: &str, json: &str) -> std::io::Result<String> {
    let length = json.len();
    let headers = format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}");
    ask(address, &format!("POST {path} HTTP/1.0\r\n{headers}\r\n\r\n{json}"))
}

fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {answer:?}")))
}

/// The rows of a query in an SQLite file, as lines; none if the file is not there yet.
///
/// # Panics
/// If sqlite3 cannot be started.
#[must_use]
pub fn sql(file: &Path, query: &str) -> Vec<String> {
    let output = Command::new("sqlite3").arg(format!("file:{}?mode=ro", file.display())).arg(query).output();
    let output = output.expect("sqlite3 is installed");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
