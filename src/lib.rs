//! warmspare: warm-spare disaster recovery for self-hosted artifact registries.

pub mod clock;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod mirror;
pub mod observe;
pub mod store;
pub mod stream;
pub mod units;
pub mod verify;
