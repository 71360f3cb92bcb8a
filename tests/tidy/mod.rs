//! What no compiler checks: that the source, the documents and the repository are as docs/ARCHITECTURE.md promises.
//!
//! Everything here reads text, so it takes seconds. A rule that a good change has to break is changed here, in the
//! same commit, with its reason beside it.

mod alarms;
mod documents;
mod hygiene;
mod licences;
mod rooms;
mod shape;
mod source;
