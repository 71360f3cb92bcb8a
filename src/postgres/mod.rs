//! PostgreSQL: the only room that speaks its protocol and knows its catalogs.
//!
//! A [`Session`] is one connection with every setting pinned that could change a byte of what we read. On top of it:
//! what a database [consists of](catalog), the [inventory] that a proof compares, what we [refuse](unsupported) by name, what we may not
//! [read](access), [COPY](copy) out and in, a [rate] for it, how a capture's sessions [gather] in one
//! locked [snapshot], the [watch] that lets the application's
//! DDL win, the client [programs] (`pg_dump`), and the [condition] a server is in.
//!
//! Nothing here decides *when* to capture or restore; that is `capture` and `restore`.

pub mod access;
pub mod allowance;
pub mod catalog;
pub mod condition;
pub mod connect;
mod conninfo;
pub mod constraint_triggers;
pub mod copy;
pub mod counters;
pub mod early;
pub mod error;
pub mod gather;
pub mod identity;
pub mod inventory;
pub mod large_objects;
pub mod lifecycle;
pub mod marking;
pub mod programs;
pub mod properties;
pub mod quote;
pub mod rate;
pub mod refused;
pub mod roles;
pub mod row;
pub mod row_hash;
pub mod script;
pub mod sequence_gap;
pub mod server_wide;
pub mod session;
pub mod snapshot;
pub mod unsupported;
pub mod watch;

pub use connect::Server;
pub use error::Error;
pub use session::Session;
