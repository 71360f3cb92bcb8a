//! The steps a plan is made of, one file per kind. Each is split where a journal can stand between two durable changes.

pub mod database;
