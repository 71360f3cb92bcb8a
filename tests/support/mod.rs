//! What the tests share: real servers, started on free ports in temporary folders and torn down whatever happens.

pub mod buckets;
pub mod ceph;
