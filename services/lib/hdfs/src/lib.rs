//! hdfs.
