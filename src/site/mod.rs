//! One live site: who may take traffic, decided by a lease in a third place.
//!
//! [`lease`] is the protocol, a pure function that knows neither network, disk nor clock. [`witness`] is the third place, on
//! whatever store it lies. [`gate`] is what load balancers ask. [`driver`] brings them together, [`daemon`] makes a process of that,
//! whose role, term and leave to write the other commands of a machine borrow, and [`operate`] is what a person does with two of them.
//! [`journal`] is what they did. [`balancer`] writes what a load balancer must be told of both gates.
//!
//! Without a witness nothing of this runs: the role of a site follows `live` in the configuration.

pub mod balancer;
pub mod daemon;
pub mod driver;
pub mod gate;
pub mod journal;
pub mod lease;
pub mod operate;
pub mod witness;
