//! Buckets and keys: the only room that knows aws-sdk-s3 and object_store.
//!
//! Two doors. [`keys`] is the control plane: our own small records, created once, under plain names.
//! [`bucket`] is the data plane: other people's objects under whatever keys they chose. Beside them [`etcd`], whose keys are
//! replaced by comparing revisions: for the witness alone.

mod abilities;
mod alone;
mod authorities;
pub mod bucket;
pub mod cloud;
pub mod error;
pub mod etcd;
pub mod folder;
pub mod keys;
pub mod object;
mod parts;
pub mod probe;
mod read_only;
mod removing;
pub mod s3;

pub use abilities::{Abilities, Ability, TriedBy};
pub use bucket::Bucket;
pub use error::{Place, StoreError};
pub use etcd::Etcd;
pub use keys::{Create, Created, Delete, Keys, ListedKey, Read, Replace};
pub use object::{
    Attributes, Body, Cursor, Found, Head, Keeps, Layout, Listed, NULL_VERSION, Names, Original, Page, Skipped,
    SourceVersion, Tags, Versioning, WriteError, Written,
};
pub use probe::{Canary, Protection, StoreProbe, Versions};
pub use read_only::ReadOnly;
pub use removing::Removing;
