//! The record as it lies in the witness: JSON that a person can read at four in the morning.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::WitnessError;
use crate::site::lease::{Nonce, Proposal, Revision, Seen, Side, Standing, Term, WitnessId};
use crate::vault::layout::PointId;

/// The format this release writes.
pub const FORMAT: u32 = 1;

/// Whether somebody holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The holder does.
    Live,
    /// Nobody does: the last holder closed and let go.
    Released,
}

/// Who is live, in which term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// The witness's own number, in hexadecimal, given to it when it was set up.
    pub witness: String,
    /// The system.
    pub system: String,
    /// The term.
    pub term: u64,
    /// The site that holds the lease, when one does.
    pub holder: Option<String>,
    /// Whether one does.
    pub mode: Mode,
    /// For which site it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The write's number in its term.
    pub seq: u64,
    /// By which its writer knows the write again, in hexadecimal.
    pub nonce: String,
    /// For how many milliseconds the holder believes itself after it sent this.
    pub ttl_ms: u64,
    /// The point that has everything the releaser had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<String>,
    /// When it was written, by the writer's clock. For people: nothing is decided by it.
    pub wallclock: Timestamp,
    /// Who asked for the change of term or mode.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// Who writes a record, and what the protocol does not know of it.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The system.
    pub system: &'a str,
    /// This site.
    pub us: &'a str,
    /// The other one.
    pub them: &'a str,
    /// The witness's number.
    pub witness: WitnessId,
    /// This machine's clock.
    pub at: Timestamp,
    /// Who asked for it.
    pub operator: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl Record {
    /// What `author` writes when the protocol says `proposal`.
    pub fn new(proposal: &Proposal, author: &Author<'_>) -> Self {
        let name = |side| match side {
            Side::Us => author.us.to_owned(),
            Side::Them => author.them.to_owned(),
        };
        let (holder, to, point) = match proposal.standing {
            Standing::Held(side) => (Some(name(side)), None, None),
            Standing::Released { to, point } => (None, to.map(name), point),
        };
        Record {
            format: FORMAT,
            witness: format!("{:032x}", author.witness.0),
            system: author.system.to_owned(),
            term: proposal.term.0,
            mode: if holder.is_some() { Mode::Live } else { Mode::Released },
            holder,
            to,
            seq: proposal.seq,
            nonce: format!("{:032x}", proposal.nonce.0),
            ttl_ms: u64::try_from(proposal.ttl.as_millis()).unwrap_or(u64::MAX),
            recovery_point: point.map(|point| point.to_string()),
            wallclock: author.at,
            operator: author.operator.to_owned(),
            reason: author.reason.to_owned(),
        }
    }

    /// What it says to the site `us` of `system`, whose other site is `them`.
    ///
    /// # Errors
    /// When it is of another system, or names a site that is neither.
    pub fn seen_by(&self, revision: Revision, system: &str, us: &str, them: &str) -> Result<Seen, WitnessError> {
        if self.system != system {
            return Err(WitnessError::OtherSystem { found: self.system.clone(), expected: system.to_owned() });
        }
        let side = |site: &String| match site {
            site if site == us => Ok(Side::Us),
            site if site == them => Ok(Side::Them),
            site => {
                let (site, us, them) = (site.clone(), us.to_owned(), them.to_owned());
                Err(WitnessError::UnknownSite { site, us, them })
            }
        };
        let standing = match &self.holder {
            Some(holder) => Standing::Held(side(holder)?),
            None => {
                let point = self.recovery_point.as_deref().and_then(|point| point.parse::<PointId>().ok());
                Standing::Released { to: self.to.as_ref().map(side).transpose()?, point }
            }
        };
        Ok(Seen {
            revision,
            witness: WitnessId(hex(&self.witness).unwrap_or_default()),
            term: Term(self.term),
            standing,
            seq: self.seq,
            nonce: Nonce(hex(&self.nonce).unwrap_or_default()),
            ttl: std::time::Duration::from_millis(self.ttl_ms),
        })
    }

    /// As it is stored.
    ///
    /// # Errors
    /// Never, as far as is known: every field has a form in JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads what lies under `key` of `store`. Whatever is not clear makes it no record: a field that is misread
    /// could make two sites live.
    pub(super) fn parse(store: &str, key: &str, json: &[u8]) -> Result<Self, WitnessError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |what: String| WitnessError::NoRecord { store: store.to_owned(), key: key.to_owned(), what };
        let Format { format } = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        if format > FORMAT {
            return Err(WitnessError::Unsupported { store: store.to_owned(), key: key.to_owned(), format });
        }
        let record: Record = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        match record.contradiction() {
            Some(what) => Err(wrong(what.to_owned())),
            None => Ok(record),
        }
    }

    /// What in it cannot be.
    fn contradiction(&self) -> Option<&'static str> {
        let point = self.recovery_point.as_deref().map(str::parse::<PointId>);
        match (&self.holder, self.mode) {
            (None, Mode::Live) => Some("it is live and names no holder"),
            (Some(_), Mode::Released) => Some("it is released and names a holder"),
            (Some(_), Mode::Live) if self.to.is_some() || point.is_some() => {
                Some("it is live and released to somebody")
            }
            _ if hex(&self.witness).is_none() => Some("`witness` is not 32 hexadecimal digits"),
            _ if hex(&self.nonce).is_none() => Some("`nonce` is not 32 hexadecimal digits"),
            _ if point.is_some_and(|point| point.is_err()) => Some("`recovery_point` is not the id of a point"),
            _ if self.ttl_ms == 0 => Some("`ttl_ms` is 0"),
            _ => None,
        }
    }
}

fn hex(text: &str) -> Option<u128> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn author<'a>() -> Author<'a> {
        let at = "2026-11-21T12:00:00Z".parse().unwrap();
        let witness = WitnessId(0xabc);
        Author { system: "builder", us: "ams", them: "fra", witness, at, operator: "eva", reason: "switchover" }
    }

    fn proposal(standing: Standing) -> Proposal {
        Proposal { term: Term(3), standing, seq: 7, nonce: Nonce(5), ttl: Duration::from_secs(60) }
    }

    fn parsed(json: &str) -> Result<Record, WitnessError> {
        Record::parse("s3://w", "lease/1", json.as_bytes())
    }

    #[test]
    fn each_site_reads_what_the_other_wrote() {
        let point = Some(PointId { term: 3, seq: 12 });
        for (ours, theirs) in [
            (Standing::Held(Side::Us), Standing::Held(Side::Them)),
            (Standing::Released { to: Some(Side::Them), point }, Standing::Released { to: Some(Side::Us), point }),
            (Standing::Released { to: None, point: None }, Standing::Released { to: None, point: None }),
        ] {
            let record = Record::new(&proposal(ours), &author());
            let json = String::from_utf8(record.to_json().unwrap()).unwrap();
            let read = parsed(&json).unwrap();
            assert_eq!(read, record, "{json}");
            let here = read.seen_by(Revision(9), "builder", "ams", "fra").unwrap();
            let there = read.seen_by(Revision(9), "builder", "fra", "ams").unwrap();
            assert_eq!((here.standing, there.standing), (ours, theirs));
            assert_eq!((here.term, here.seq, here.nonce), (Term(3), 7, Nonce(5)));
            assert_eq!(
                (here.ttl, here.witness, here.revision),
                (Duration::from_secs(60), WitnessId(0xabc), Revision(9))
            );
        }
    }

    #[test]
    fn what_could_be_misread_is_no_record() {
        let record = Record::new(&proposal(Standing::Held(Side::Us)), &author());
        let json = String::from_utf8(record.to_json().unwrap()).unwrap();
        for (from, to, why) in [
            ("\"holder\": \"ams\"", "\"holder\": null", "it is live and names no holder"),
            ("\"mode\": \"live\"", "\"mode\": \"released\"", "it is released and names a holder"),
            ("\"mode\": \"live\"", "\"mode\": \"maybe\"", "unknown variant"),
            ("\"nonce\": \"0", "\"nonce\": \"", "`nonce` is not 32"),
            ("\"nonce\": \"0", "\"nonce\": \"+", "`nonce` is not 32"),
            ("\"ttl_ms\": 60000", "\"ttl_ms\": 0", "`ttl_ms` is 0"),
            ("\"seq\": 7,", "", "missing field `seq`"),
            ("}", "", "EOF"),
        ] {
            let error = parsed(&json.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(why), "{from} → {to}: {error}");
        }
        let newer = parsed(&json.replace("\"format\": 1", "\"format\": 2")).unwrap_err();
        assert!(matches!(newer, WitnessError::Unsupported { format: 2, .. }), "{newer}");
    }

    #[test]
    fn a_record_of_another_system_or_site_is_refused() {
        let record = Record::new(&proposal(Standing::Held(Side::Us)), &author());
        let system = record.seen_by(Revision(1), "quay", "ams", "fra").unwrap_err();
        assert_eq!(system.to_string(), "the witness is of the system `builder`, not of `quay`");
        let site = record.seen_by(Revision(1), "builder", "fra", "lon").unwrap_err();
        assert_eq!(site.to_string(), "the witness names the site `ams`, which is not one of `fra` and `lon`");
        assert_eq!(site.class().exit_code(), 5);
    }

    use crate::error::Explain;
}
