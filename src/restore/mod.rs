//! Restore: a snapshot becomes a running system again.

pub mod steps;
