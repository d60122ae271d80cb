//! The archive's suite against a real HDFS: `FULLTAPE_TEST_HDFS=hdfs://127.0.0.1:8020`.

// The servers under test are named in the environment.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdfs::{HdfsArchive, HdfsConfig};
use ports::conformance::{archive, unique};
use ports::{Archive, PortError, Published};

/// The archive under test in a folder of its own; `None` if no server is named.
fn server() -> Option<HdfsConfig> {
    let Ok(url) = std::env::var("FULLTAPE_TEST_HDFS") else {
        println!("skipped: FULLTAPE_TEST_HDFS is not set");
        return None;
    };
    let user = std::env::var("FULLTAPE_TEST_HDFS_USER").unwrap_or_else(|_| "fulltape".to_owned());
    let root = std::env::var("FULLTAPE_TEST_HDFS_ROOT").unwrap_or_else(|_| "/crypto_data".to_owned());
    let root = format!("{root}/{}", unique("conformance-"));
    Some(HdfsConfig { url, user, root, ..HdfsConfig::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn hdfs_is_an_archive() {
    let Some(config) = server() else { return };
    let hdfs = HdfsArchive::new(config).unwrap();
    archive::suite(&hdfs).await;
    hdfs.remove("").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_many_blocks_goes_there_and_back() {
    let Some(config) = server() else { return };
    let hdfs = HdfsArchive::new(config).unwrap();
    let content = Bytes::from((0..64_u32 << 20).map(|n| n.to_le_bytes()[1]).collect::<Vec<u8>>());
    let started = Instant::now();
    hdfs.write("_tmp/large", content.clone()).await.unwrap();
    let written = started.elapsed();
    assert_eq!(hdfs.publish("_tmp/large", "data/large").await.unwrap(), Published::Won);
    let started = Instant::now();
    assert!(hdfs.read("data/large", 0, u64::MAX).await.unwrap() == content);
    println!("64 MiB: written in {written:?}, read in {:?}", started.elapsed());
    hdfs.remove("").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unavailable_and_soon() {
    let url = "hdfs://127.0.0.1:1".to_owned();
    let hdfs = HdfsArchive::new(HdfsConfig { url, ..HdfsConfig::default() }).unwrap();
    let started = Instant::now();
    for result in
        [hdfs.write("a", Bytes::new()).await, hdfs.publish("a", "b").await.map(|_| ()), hdfs.remove("a").await]
    {
        assert!(matches!(result, Err(PortError::Unavailable { .. })), "{result:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// A NameNode that takes connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_unknown_for_a_change_and_unavailable_for_a_look() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("hdfs://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let config = HdfsConfig { url, call_timeout_ms: 200, transfer_timeout_ms: 200, ..HdfsConfig::default() };
    let hdfs = HdfsArchive::new(config).unwrap();
    assert!(matches!(hdfs.remove("a").await, Err(PortError::Unknown { .. })));
    assert!(matches!(hdfs.write("a", Bytes::new()).await, Err(PortError::Unknown { .. })));
    assert!(matches!(hdfs.length("a").await, Err(PortError::Unavailable { .. })));
    assert!(matches!(hdfs.list("a").await, Err(PortError::Unavailable { .. })));
}
