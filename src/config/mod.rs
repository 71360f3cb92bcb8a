//! The configuration file: TOML as written becomes validated types here and nowhere else.

pub mod address;
pub mod reference;
