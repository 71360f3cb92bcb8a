//! Writes down what a pass does, in the order of the keys.

use super::copy::{Copied, How, Sent};
use super::manifest::{ManifestError, Row, Writer};
use super::run::{Audited, OneCopy, Outcome};
use super::{FailedObject, Pass, digest};
use crate::config::DigestRule;

pub(super) struct Tally<'a> {
    pub(super) pass: Pass,
    pub(super) digest: Option<&'a DigestRule>,
    pub(super) next: Writer,
    /// Objects of the last manifest that the source has no more. The end of the pass says whether that is believed.
    pub(super) gone: u64,
}

impl Tally<'_> {
    pub(super) fn take(&mut self, outcome: Outcome) -> Result<(), ManifestError> {
        match outcome {
            Outcome::Skipped(skipped) => self.pass.skipped.push(skipped),
            Outcome::Unlisted(hole) => self.pass.unlisted.push(hole),
            Outcome::Unseen(row) => self.keep(&row)?,
            Outcome::Standing(stretch) => {
                let pass = &mut self.pass;
                (pass.listed, pass.unchanged) = (pass.listed + stretch.rows, pass.unchanged + stretch.rows);
                (pass.rows, pass.bytes) = (pass.rows + stretch.rows, pass.bytes + stretch.bytes);
                self.next.push_all(&stretch)?;
            }
            Outcome::Unchanged(row) => {
                self.pass.listed += 1;
                self.pass.unchanged += 1;
                self.keep(&row)?;
            }
            Outcome::Audited(row, audited) => {
                self.pass.listed += 1;
                self.audited(&row, audited)?;
            }
            Outcome::Copied(copy) => {
                self.pass.listed += 1;
                self.copied(*copy)?;
            }
            Outcome::Gone(row) => self.gone(&row)?,
            Outcome::LeftOut(row, why) => {
                self.pass.failed.push(FailedObject { key: row.key.clone(), why });
                self.keep(&row)?;
            }
        }
        Ok(())
    }

    fn gone(&mut self, row: &Row) -> Result<(), ManifestError> {
        self.gone += 1;
        self.next.push_gone(row)
    }

    fn audited(&mut self, row: &Row, audited: Audited) -> Result<(), ManifestError> {
        match audited {
            Audited::Settled => {
                self.pass.audited += 1;
                self.pass.unchanged += 1;
            }
            Audited::Adjusted => {
                self.pass.audited += 1;
                self.pass.adjusted += 1;
                self.pass.adjusted_unseen += 1;
            }
            Audited::Unsettled(why) => {
                self.pass.unchanged += 1;
                self.pass.unsettled.push(FailedObject { key: row.key.clone(), why });
            }
        }
        self.keep(row)
    }

    fn copied(&mut self, OneCopy { key, copied, before }: OneCopy) -> Result<(), ManifestError> {
        match copied {
            Copied::Done(row, how) => {
                let done = how != How::Had;
                self.count(&row, how);
                self.keep(&row)?;
                if done {
                    // A copy cost more than this write: a killed pass does not repeat it.
                    self.next.flush()?;
                    crate::failpoint::hit("mirror.row");
                }
            }
            Copied::Vanished => match before {
                Some(row) => self.gone(&row)?,
                None => self.pass.vanished += 1,
            },
            // The target still has the version before.
            Copied::HeldBack => before.map_or(Ok(()), |row| self.keep(&row))?,
            Copied::Skipped(skipped) => self.pass.skipped.push(skipped),
            Copied::Failed(why) => {
                self.pass.failed.push(FailedObject { key, why });
                // The target still has the version before.
                before.map_or(Ok(()), |row| self.keep(&row))?;
            }
        }
        Ok(())
    }

    fn count(&mut self, row: &Row, how: How) {
        let (pass, size) = (&mut self.pass, row.source.size);
        match how {
            How::Had => {
                pass.unchanged += 1;
                pass.reread += 1;
            }
            How::Adjusted => {
                pass.adjusted += 1;
                pass.saved_bytes += size;
            }
            How::Duplicated => {
                pass.copied += 1;
                pass.copied_bytes += size;
                pass.duplicated += 1;
                pass.saved_bytes += size;
            }
            How::Sent(Sent { refused, unsettled }) => {
                pass.copied += 1;
                pass.copied_bytes += size;
                pass.sent_bytes += size;
                let named = |why| FailedObject { key: row.key.clone(), why };
                refused.into_iter().for_each(|why| pass.not_duplicated.push(named(why)));
                unsettled.into_iter().for_each(|why| pass.unsettled.push(named(why)));
            }
        }
    }

    fn keep(&mut self, row: &Row) -> Result<(), ManifestError> {
        self.pass.rows += 1;
        self.pass.bytes += row.source.size;
        digest::misnamed(self.digest, row).into_iter().for_each(|object| self.pass.misnamed.push(object));
        self.next.push(row)
    }
}
