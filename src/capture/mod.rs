//! Capture: what one site holds, as streams.

pub mod database;
pub mod ddl;
pub mod layout;
pub mod tables;
