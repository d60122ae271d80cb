//! archiver.
