//! One live site: who may take traffic, decided by a lease in a third place.
//!
//! [`lease`] is the protocol, a pure function that knows neither network, disk nor clock. [`witness`] is the third place, on
//! whatever store it lies, with what a person does to it. [`balancer`] writes what a load balancer must be told of both gates.

pub mod balancer;
pub mod lease;
pub mod witness;
