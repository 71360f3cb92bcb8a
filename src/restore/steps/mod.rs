//! The steps a restore plan is made of, one file per kind.

mod bucket_bring;
pub mod bucket_check;
pub mod bucket_rebuild;
pub mod database;
pub mod files;
