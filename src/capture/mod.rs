//! 1 CAPTURE: reads the sources of a system where they live and writes them into a snapshot's sink.

pub mod database;
pub mod ddl;
pub mod export;
mod large_objects;
pub mod layout;
pub mod materialized_views;
pub mod tables;
