//! What the source has, or may have, although the manifest does not name it: what could not be read, what cannot be carried, what is
//! no object, what could not be listed.
//!
//! The keeper takes what points do not name any more for deleted, so a point says of these that their absence tells nothing. It does so
//! beside the manifest, where only the spare can read it ([`Unmirrored::attribute`]): keys are nobody else's business. What a point of an
//! earlier release does not say is not known, and taken as it was then: for nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::list::Unlisted;
use crate::stream::Attributes;

/// So many names are told at most, and so many ranges. Beyond that nobody knows which they are, and nothing is taken for deleted.
const TOLD_MAX: usize = 10_000;
/// Of the attributes of a manifest's stream.
const ATTRIBUTE: &str = "unmirrored";

/// What a manifest leaves out although the source may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unmirrored {
    /// Keys of objects.
    keys: BTreeSet<String>,
    /// Names of what is no object. It may be a link to a folder: whatever is below is left out, too.
    names: BTreeSet<String>,
    /// What could not be listed: after the one key, up to and with the other.
    ranges: Vec<(Option<String>, Option<String>)>,
    /// Whether there was more than is told.
    is_cut: bool,
}

impl Unmirrored {
    /// An object.
    pub(super) fn push_key(&mut self, key: &str) {
        if self.has_room() {
            self.keys.insert(key.to_owned());
        }
    }

    /// What was listed and is no object.
    pub(super) fn push_name(&mut self, name: &str) {
        if self.has_room() {
            self.names.insert(name.to_owned());
        }
    }

    /// A part of the listing that there is not.
    pub(super) fn push_range(&mut self, hole: &Unlisted) {
        if self.has_room() {
            self.ranges.push((hole.after.clone(), hole.until.clone()));
        }
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.keys.len() + self.names.len() + self.ranges.len() < TOLD_MAX;
        self.is_cut |= !has_room;
        has_room
    }

    /// Whether there was more than could be told: then it [covers](Unmirrored::covers) everything.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether the source may have an object of this key, although the manifest does not name it.
    pub fn covers(&self, key: &str) -> bool {
        let is_below =
            || key.match_indices('/').any(|(at, _)| key.get(..at).is_some_and(|name| self.names.contains(name)));
        let is_within = |(after, until): &(Option<String>, Option<String>)| {
            after.as_deref().is_none_or(|after| after < key) && until.as_deref().is_none_or(|until| key <= until)
        };
        self.is_cut
            || self.keys.contains(key)
            || self.names.contains(key)
            || is_below()
            || self.ranges.iter().any(is_within)
    }

    /// What is said of it beside the manifest; nothing where nothing is left out.
    pub fn attribute(&self) -> Attributes {
        if *self == Unmirrored::default() {
            return Attributes::new();
        }
        // Strings, and no map with other keys: it can always be written.
        let told = serde_json::to_value(self).unwrap_or(Value::Null);
        Attributes::from([(ATTRIBUTE.to_owned(), told)])
    }

    /// What is said beside a manifest. What a later release wrote in another way may name anything.
    pub fn told(attributes: &Attributes) -> Self {
        let Some(told) = attributes.get(ATTRIBUTE) else { return Unmirrored::default() };
        Unmirrored::deserialize(told).unwrap_or_else(|_| Unmirrored { is_cut: true, ..Unmirrored::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(after: Option<&str>, until: Option<&str>) -> Unlisted {
        Unlisted { after: after.map(str::to_owned), until: until.map(str::to_owned), why: String::new() }
    }

    #[test]
    fn an_object_a_link_with_all_that_is_below_it_and_a_hole_are_left_alone_and_nothing_else() {
        let mut left = Unmirrored::default();
        left.push_key("k");
        left.push_name("link/é");
        left.push_range(&hole(Some("p"), Some("r")));
        let told = Unmirrored::told(&left.attribute());
        assert_eq!(told, left);
        for (key, covered) in [
            ("k", true),
            ("k/below", false),
            ("link", false),
            ("link/é", true),
            ("link/é/a/b", true),
            ("link/éa", false),
            ("p", false),
            ("pa", true),
            ("r", true),
            ("ra", false),
        ] {
            assert_eq!(told.covers(key), covered, "{key}");
        }
        for (after, until) in [(None, Some("z")), (Some(""), None), (None, None)] {
            let mut all = Unmirrored::default();
            all.push_range(&hole(after, until));
            assert!(all.covers("x"), "{after:?} {until:?}");
        }
    }

    #[test]
    fn more_than_can_be_told_is_everything_and_so_is_what_another_release_says_in_its_own_way() {
        let mut left = Unmirrored::default();
        (0..TOLD_MAX).for_each(|n| left.push_key(&format!("{n:05}")));
        assert!(!left.covers("another") && !left.is_cut());
        left.push_key("another");
        assert!(left.covers("whatever") && left.is_cut());
        assert!(Unmirrored::told(&left.attribute()).is_cut());
        let other = Attributes::from([(ATTRIBUTE.to_owned(), serde_json::json!(["k"]))]);
        assert!(Unmirrored::told(&other).covers("whatever"));
    }

    #[test]
    fn a_point_that_says_nothing_leaves_nothing_out() {
        assert_eq!(Unmirrored::default().attribute(), Attributes::new());
        assert!(!Unmirrored::told(&Attributes::new()).covers("k"));
    }
}
