//! The integration and end-to-end tests, one binary: each module is about one thing an operator relies on.

mod export;
mod export_process;
mod keeper;
mod kill;
mod leaving;
mod mirror;
mod postgres;
mod proof;
mod store;
mod support;
mod tidy;
mod vault;
mod words;
mod world;
