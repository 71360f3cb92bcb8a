//! The integration and end-to-end tests, one binary: each module is about one thing an operator relies on.

mod check;
mod corruption;
mod export;
mod export_process;
mod golden;
mod keeper;
mod kept;
mod keys;
mod kill;
mod leaving;
mod live_cannot_read;
mod mirror;
mod postgres;
mod proof;
mod recipients;
mod rights;
mod soak;
mod store;
mod support;
mod tables;
mod tidy;
mod trial;
mod vault;
mod verify;
mod words;
mod world;
