//! What the tests share: real servers, started on free ports in temporary folders and torn down whatever happens.

#![allow(dead_code, reason = "each test module uses its part of the support")]

pub mod bucket_sites;
pub mod buckets;
pub mod ceph;
pub mod daemons;
pub mod debs;
pub mod disk;
pub mod etcd;
pub mod history;
pub mod keys_conformance;
pub mod managed;
pub mod memory;
pub mod network;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod receiver;
pub mod sites;
pub mod synthetic;
pub mod told;
pub mod traffic;
pub mod vaults;
pub mod wire;
pub mod witness_conformance;
