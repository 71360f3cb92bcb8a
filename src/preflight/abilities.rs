//! What each bucket can really do, tried at most once a day, and again at once when another credential or another place is
//! configured. The other site's bucket is tried by writing, our own by reading alone: it may be live.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::finding::Findings;
use super::limit::{ANSWER_MAX, within};
use crate::clock::Clock;
use crate::config::address::BucketAddress;
use crate::config::{Here, HereError, Site, SourceKind, SourceName};
use crate::durable;
use crate::store::{Abilities, Ability, Bucket, Names, TriedBy};
use crate::units::Span;

const ABOUT: &str = "bucket";
/// What was found longer ago is tried again.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What one bucket can do, and when that was tried: `check/bucket.NAME.SITE.json` of the state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The source: `bucket.artifacts`.
    pub source: String,
    /// Whose bucket it is.
    pub site: String,
    /// The bucket, as a person knows it.
    pub store: String,
    /// What it keeps of an object: `content, headers and metadata, tags`.
    pub keeps: String,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// How.
    pub by: TriedBy,
    /// Eight digits that another credential has not. They do not tell which it is.
    pub credential: String,
    /// What was found; nothing of a folder, which has none of it.
    pub found: Option<Abilities>,
}

/// One look: at which bucket, and how far it may go.
pub(super) struct Trial<'a> {
    pub here: &'a Here,
    pub clock: &'a dyn Clock,
    pub site: &'a Site,
    pub address: &'a BucketAddress,
    pub by: TriedBy,
    /// Whether what is found may be written down.
    pub keeps_notes: bool,
}

impl Trial<'_> {
    /// Tries the bucket, or says what was found last. Nothing when it does not answer, which is told.
    pub async fn run(
        &self,
        bucket: &Bucket,
        credential: Option<&SecretString>,
        object: &str,
        findings: &mut Findings,
    ) -> Option<Tried> {
        let now = self.clock.now();
        let source = SourceName::new(SourceKind::Bucket, &self.address.name).to_string();
        let tried = Tried {
            source,
            site: self.site.name.clone(),
            store: bucket.name().to_owned(),
            keeps: bucket.keeps().words(),
            at: now,
            by: self.by,
            credential: digits(credential),
            found: None,
        };
        let last = findings.value(ABOUT, object, self.last())?.filter(|last| is_still_true(last, &tried));
        let tried = match last {
            Some(last) => last,
            None => {
                let found = within(ANSWER_MAX, object, bucket.try_abilities(self.by)).await;
                let tried = Tried { found: findings.value(ABOUT, object, found)?, ..tried };
                if self.keeps_notes && tried.found.is_some() {
                    findings.value(ABOUT, object, self.keep(&tried))?;
                }
                tried
            }
        };
        if let Some(found) = &tried.found {
            told(&tried, found, now, object, findings);
        }
        Some(tried)
    }

    fn path(&self) -> PathBuf {
        let name = format!("bucket.{}.{}.json", self.address.name, self.site.name);
        self.here.site.state.join("check").join(name)
    }

    /// What was found last. A file that is damaged says nothing: it is tried again.
    fn last(&self) -> Result<Option<Tried>, HereError> {
        let path = self.path();
        let content = durable::read(&path).map_err(|source| HereError::State { path, source })?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    fn keep(&self, tried: &Tried) -> Result<(), HereError> {
        let path = self.path();
        let failed = |source: std::io::Error| HereError::State { path: path.clone(), source };
        let content = serde_json::to_vec_pretty(tried).map_err(|error| failed(error.into()))?;
        path.parent().map_or(Ok(()), durable::private_folder).map_err(failed)?;
        durable::replace(&path, &content).map_err(failed)?;
        crate::failpoint::hit("preflight.abilities");
        Ok(())
    }
}

fn is_still_true(last: &Tried, wanted: &Tried) -> bool {
    let age = wanted.at.duration_since(last.at);
    let is_same = (&last.store, &last.credential) == (&wanted.store, &wanted.credential);
    // Whoever tried by writing has read, too.
    let goes_as_far = last.by == wanted.by || last.by == TriedBy::Writing;
    is_same && goes_as_far && !age.is_negative() && age < AGE_MAX
}

/// Eight digits of a hash: so few that nobody can try passwords on them.
fn digits(credential: Option<&SecretString>) -> String {
    let Some(credential) = credential else { return "anonymous".to_owned() };
    let mut hasher = blake3::Hasher::new_derive_key("warmspare 2026 whether a credential is another one");
    hasher.update(credential.expose_secret().trim().as_bytes());
    hasher.finalize().to_hex().chars().take(8).collect()
}

fn told(tried: &Tried, found: &Abilities, now: Timestamp, object: &str, findings: &mut Findings) {
    let ago = Span(now.duration_since(tried.at).unsigned_abs());
    let how = match tried.by {
        TriedBy::Reading => "by reading",
        TriedBy::Writing => "by writing",
    };
    let left = match found.left.is_empty() {
        true => String::new(),
        false => format!("; left behind, because it may not be removed: {}", found.left.join(", ")),
    };
    findings.ok(ABOUT, object, format!("tried {how} {ago} ago: {}{left}", found.words()));
    if found.checks_md5 == Ability::No {
        let next = "Reach it over TLS, and let `warmspare verify` read what it holds more often: nothing else finds what was \
                    damaged on the way.";
        findings.warning(ABOUT, object, "it takes content that is not what its Content-MD5 says", next);
    }
    if [Ability::No, Ability::Denied].contains(&found.copies) {
        let next = "At an S3 server allow the credential to read and write there; else expect copies, the attic's too, to go through \
                    this host.";
        findings.warning(ABOUT, object, "it does not copy an object by itself", next);
    }
}

/// What objects of `ours` lose at the other site, as far as the stores differ.
pub(super) fn losses(ours: &Bucket, theirs: &Bucket, found: Option<&Tried>, object: &str, findings: &mut Findings) {
    let (ours, theirs) = (ours.keeps(), theirs.keeps());
    let may_not_tag = found.and_then(|tried| tried.found.as_ref());
    let may_not_tag = may_not_tag.is_some_and(|found| [Ability::No, Ability::Denied].contains(&found.tags));
    let lost = [
        (ours.headers && !theirs.headers, "headers and metadata"),
        (ours.expires && theirs.headers && !theirs.expires, "Expires"),
        (ours.headers && theirs.metadata == Names::Identifiers, "metadata whose names are no identifiers"),
        (ours.tags && (!theirs.tags || may_not_tag), "tags"),
        (ours.mode && !theirs.mode, "modes"),
    ];
    let lost: Vec<&str> = lost.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    if !lost.is_empty() {
        let found = format!("it does not keep {} of the live bucket's objects", lost.join(" and "));
        let next = "Nothing, if the application does without; otherwise mirror to a store of the same kind, and allow tagging there.";
        findings.warning(ABOUT, object, found, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Versions;

    fn tried(hours: i64, by: TriedBy, credential: &str) -> Tried {
        Tried {
            source: "bucket.a".to_owned(),
            site: "fra".to_owned(),
            store: "s3://b".to_owned(),
            keeps: String::new(),
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours),
            by,
            credential: credential.to_owned(),
            found: Some(Abilities { versions: Versions::Kept, ..Abilities::default() }),
        }
    }

    #[test]
    fn what_was_found_holds_for_a_day_and_one_credential() {
        let last = tried(0, TriedBy::Writing, "a");
        for (hours, by, credential, expected) in [
            (23, TriedBy::Writing, "a", true),
            (23, TriedBy::Reading, "a", true),
            (24, TriedBy::Writing, "a", false),
            (1, TriedBy::Writing, "b", false),
            (-1, TriedBy::Writing, "a", false),
        ] {
            assert_eq!(is_still_true(&last, &tried(hours, by, credential)), expected, "{hours} {by:?} {credential}");
        }
        assert!(!is_still_true(&tried(0, TriedBy::Reading, "a"), &tried(1, TriedBy::Writing, "a")));
    }

    #[test]
    fn a_credential_is_told_apart_and_not_told() {
        let of = |text: &str| digits(Some(&SecretString::from(text)));
        assert_eq!(of("AK:SK\n"), of("AK:SK"));
        assert_ne!(of("AK:SK"), of("AK:SL"));
        assert_eq!((of("AK:SK").len(), digits(None).as_str()), (8, "anonymous"));
    }
}
