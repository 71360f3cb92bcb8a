//! Two sites on one machine, for people who want to see it before they install it, and for the tests.

pub mod cluster;
