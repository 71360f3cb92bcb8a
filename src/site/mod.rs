//! One live site: who may take traffic, decided by a lease in a third place.
//!
//! [`lease`] is the protocol, a pure function that knows neither network, disk nor clock. [`witness`] is the third place, on
//! whatever store it lies. [`gate`] is what load balancers ask. Nothing runs them yet: the role of a site follows `live` in the
//! configuration.

pub mod driver;
pub mod gate;
pub mod lease;
pub mod witness;
