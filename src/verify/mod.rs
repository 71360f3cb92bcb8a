//! Prove: what was restored is what was captured.

pub mod database;
