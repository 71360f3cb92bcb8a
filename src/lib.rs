//! warmspare: warm-spare disaster recovery for self-hosted artifact registries.
//!
//! ```text
//!  live site                                             vault, mirror                         spare site
//!  ─────────                                             ─────────────                         ──────────
//!  database ─┐                                                                             ┌─► database (fresh, proven, swapped in)
//!  exports  ─┼─► capture ─► chunk ─► id ─► compress ─► seal ─► vault ─► open ─► restore ───┼─► files (modes, owners)
//!  buckets  ─┘        │                                        ▲                           │
//!                     └──────────── mirror ──► spare buckets ──┴── manifest ── closure ────┘
//! ```
//!
//! The modules in reading order; a room imports only those before it, except that [`point`] and [`restore`]
//! compose. docs/ARCHITECTURE.md is the map.

// Base: what every room may use.
pub mod blocking;
pub mod clock;
pub mod durable;
pub mod error;
pub mod failpoint;
pub mod https;
pub mod keys;
pub mod observe;
pub mod permit;
pub mod process;
pub mod stream;
pub mod units;

// Rooms, in the order in which data passes through them.
pub mod schedule;

pub mod config;
pub mod store;

pub mod postgres;

pub mod capture;

pub mod pipeline;

pub mod vault;

pub mod mirror;

pub mod point;

pub mod restore;

pub mod verify;

pub mod jobs;

pub mod site;

pub mod report;

pub mod notify;

pub mod preflight;

pub mod daemon;

// What a person starts.
pub mod cli;
pub mod demo;
pub mod init;
pub mod keygen;
pub mod trial;
