//! Which old records of a witness that numbers them may go.
//!
//! Where a store knows only "create, unless it is there", each write of the record is an object of its own, numbered by its
//! revision, and the highest is the record. A writer that slept may still create the number after the one it read: while
//! the objects between are there, it is refused. Once they are gone it succeeds, which is why a create is believed only after
//! another listing has shown it to be the highest; and why the highest itself never goes.

use std::time::Duration;

use super::words::Revision;
use super::{Broken, Rule};

/// For how long records stay that are the record no more.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The records that may be deleted, of all there are with their ages.
pub fn prunable(records: &[(Revision, Duration)]) -> Vec<Revision> {
    prunable_unless(Broken::default(), records)
}

pub(super) fn prunable_unless(broken: Broken, records: &[(Revision, Duration)]) -> Vec<Revision> {
    let highest = records.iter().map(|(revision, _)| *revision).max().filter(|_| broken.keeps(Rule::KeepHighest));
    let old = records.iter().filter(|(revision, age)| *age > KEPT_FOR && Some(*revision) != highest);
    old.map(|(revision, _)| *revision).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_itself_is_never_deleted_however_old() {
        let day = KEPT_FOR + Duration::from_secs(1);
        assert_eq!(prunable(&[(Revision(3), day), (Revision(5), day), (Revision(4), KEPT_FOR)]), [Revision(3)]);
        assert_eq!(prunable(&[(Revision(9), day * 100)]), []);
        assert_eq!(prunable(&[]), []);
    }
}
