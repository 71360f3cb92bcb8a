//! Buckets and keys: the only room that knows aws-sdk-s3 and object_store.
//!
//! Two doors. [`keys`] is the control plane: our own small records, created once, under plain names.
//! `Bucket` is the data plane: other people's objects under whatever keys they chose.

pub mod error;
pub mod keys;

pub use error::{Place, StoreError};
pub use keys::{Create, Created, Delete, Keys, ListedKey, Read};
