//! One live site: who may take traffic, decided by a lease in a third place.
//!
//! [`lease`] is the protocol, a pure function that knows neither network, disk nor clock.

pub mod lease;
