//! 7 PROVE: what was restored or mirrored is compared with what was recorded, byte by byte.

pub mod object;
