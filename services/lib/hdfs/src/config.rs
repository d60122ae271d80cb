//! How to reach the file system, and how long to wait for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of an [`HdfsArchive`](crate::HdfsArchive).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HdfsConfig {
    /// The NameNode, `hdfs://host:port`, or a name service that `HADOOP_CONF_DIR` describes.
    pub url: String,
    /// The user to act as; HDFS without Kerberos believes it. Empty: what the environment says.
    pub user: String,
    /// The folder under which all paths lie.
    pub root: String,
    /// On how many DataNodes each block is stored.
    pub replication: u32,
    /// How long to wait for one answer of the NameNode.
    pub call_timeout_ms: u64,
    /// How long writing or reading the bytes of one file may take.
    pub transfer_timeout_ms: u64,
}

impl Default for HdfsConfig {
    fn default() -> Self {
        Self {
            url: "hdfs://127.0.0.1:8020".to_owned(),
            user: "fulltape".to_owned(),
            root: "/crypto_data".to_owned(),
            replication: 2,
            call_timeout_ms: 15_000,
            transfer_timeout_ms: 120_000,
        }
    }
}

impl HdfsConfig {
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) fn transfer_timeout(&self) -> Duration {
        Duration::from_millis(self.transfer_timeout_ms)
    }

    /// Whether the URL names one NameNode. Then there is none to fail over to, and asking the same
    /// one again and again is the caller's decision.
    pub(crate) fn names_one_namenode(&self) -> bool {
        let host = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or(host);
        host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_is_not_given_and_unknown_keys_are_errors() {
        let config: HdfsConfig = serde_json::from_str(r#"{"root": "/other"}"#).unwrap();
        assert_eq!(config, HdfsConfig { root: "/other".to_owned(), ..HdfsConfig::default() });
        let error = serde_json::from_str::<HdfsConfig>(r#"{"rooot": "/other"}"#).unwrap_err();
        assert!(error.to_string().contains("rooot"), "{error}");
    }

    #[test]
    fn tells_one_namenode_from_a_name_service() {
        let of = |url: &str| HdfsConfig { url: url.to_owned(), ..HdfsConfig::default() }.names_one_namenode();
        assert!(of("hdfs://127.0.0.1:8020"));
        assert!(of("hdfs://namenode:8020/"));
        assert!(!of("hdfs://lake"));
    }
}
