//! The embedded mode passes the same suites as the servers it stands for.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{Position, Topic};
use local::{LocalArchive, LocalLog, LocalTables};
use ports::conformance::{archive, log, tables};
use ports::{LogReader, LogScan, LogWriter, SystemClock};

struct Local {
    log: LocalLog,
    folder: PathBuf,
    /// Topics are given at the start; each case takes one.
    unused: Mutex<VecDeque<Topic>>,
}

#[async_trait]
impl log::LogUnderTest for Local {
    fn writer(&self) -> Arc<dyn LogWriter> {
        Arc::new(self.log.clone())
    }

    fn scan(&self) -> Arc<dyn LogScan> {
        // As another process sees it.
        Arc::new(LocalLog::open_read_only(&self.folder).expect("the log is there"))
    }

    async fn reader(&self, group: &str, topic: &Topic) -> Box<dyn LogReader> {
        Box::new(self.log.reader(group, std::slice::from_ref(topic)).expect("the only member"))
    }

    async fn topic(&self) -> Topic {
        self.unused.lock().expect("no panic").pop_front().expect("enough topics")
    }

    fn supports_groups(&self) -> bool {
        false
    }

    async fn delete_before(&self, position: &Position) -> bool {
        // Somebody with a shell.
        let connection = rusqlite::Connection::open(self.folder.join("log.sqlite")).expect("open");
        let delete = r#"DELETE FROM records WHERE topic = (SELECT id FROM topics WHERE name = ?1)
          AND partition = ?2 AND "offset" < ?3"#;
        let at = (position.at.topic.as_str(), position.at.partition, position.offset);
        connection.execute(delete, at).expect("delete");
        true
    }
}

async fn log_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let topics: Vec<(Topic, i32)> = (0..40).map(|n| (Topic::from(format!("topic-{n}")), 4)).collect();
    let log = LocalLog::open(folder.path(), &topics, Arc::new(SystemClock)).expect("open");
    let unused = Mutex::new(topics.into_iter().map(|(topic, _)| topic).collect());
    log::suite(&Local { log, folder: folder.path().to_path_buf(), unused }).await;
}

#[tokio::test]
async fn the_log_conforms() {
    log_conforms().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_log_conforms_on_several_threads() {
    log_conforms().await;
}

#[tokio::test]
async fn the_tables_conform() {
    let folder = tempfile::tempdir().expect("a folder");
    let local = LocalTables::open(folder.path()).expect("open");
    tables::suite(&local, &local).await;
    let elsewhere = LocalTables::open_read_only(folder.path()).expect("open to read");
    tables::suite(&local, &elsewhere).await;
}

#[tokio::test]
async fn the_archive_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    archive::suite(&LocalArchive::open(folder.path().join("crypto_data"))).await;
}
