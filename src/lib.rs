//! warmspare: warm-spare disaster recovery for self-hosted artifact registries.

pub mod clock;
pub mod config;
pub mod durable;
pub mod error;
pub mod failpoint;
pub mod keys;
pub mod observe;
pub mod pipeline;
pub mod store;
pub mod stream;
pub mod units;
pub mod vault;
