//! warmspare: warm-spare disaster recovery for self-hosted artifact registries.

pub mod clock;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod observe;
pub mod postgres;
pub mod stream;
pub mod units;
