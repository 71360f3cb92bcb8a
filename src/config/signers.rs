//! Whose signatures are believed: the verifying keys pinned in the configuration, one or more for each site.
//!
//! A site signs with one key at a time. After an exchange the old key stays in the list for as long as records
//! that it signed are to be believed; one that was stolen is taken out, and they are damaged from then on.

use std::collections::BTreeMap;

use crate::keys::VerifyingKey;

/// The pinned keys of each site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers(BTreeMap<String, Vec<VerifyingKey>>);

impl Signers {
    /// The keys of `site`, the one it signs with now first; none when nothing is pinned for it.
    pub fn of(&self, site: &str) -> &[VerifyingKey] {
        self.0.get(site).map_or(&[], Vec::as_slice)
    }

    /// Every site with its keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[VerifyingKey])> {
        self.0.iter().map(|(site, keys)| (site.as_str(), keys.as_slice()))
    }
}

impl From<BTreeMap<String, Vec<VerifyingKey>>> for Signers {
    fn from(keys: BTreeMap<String, Vec<VerifyingKey>>) -> Self {
        Signers(keys)
    }
}

/// One key for each site.
impl From<BTreeMap<String, VerifyingKey>> for Signers {
    fn from(keys: BTreeMap<String, VerifyingKey>) -> Self {
        Signers(keys.into_iter().map(|(site, key)| (site, vec![key])).collect())
    }
}
