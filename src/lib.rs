//! warmspare: warm-spare disaster recovery for self-hosted artifact registries.

pub mod capture;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod failpoint;
pub mod observe;
pub mod postgres;
pub mod restore;
pub mod stream;
pub mod units;
pub mod verify;
