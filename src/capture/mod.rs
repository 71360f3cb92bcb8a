//! 1 CAPTURE: reads the sources of a system where they live and writes them into a snapshot's sink.

pub mod export;
