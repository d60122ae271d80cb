//! cassandra.
