//! 6 RESTORE: puts the sources of a system back.

pub mod steps;
