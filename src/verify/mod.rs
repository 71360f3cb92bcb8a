//! 7 PROVE: finds what was restored equal to what was captured, or says where it is not.

pub mod bucket;
pub mod database;
mod excused;
pub mod files;
mod large_objects;
mod majors;
mod materialized_views;
pub mod object;
mod settled;
