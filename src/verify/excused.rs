//! What the server refused to the role that restored, told apart from what is simply wrong.
//!
//! Only for a role that is no superuser, and only what the restore wrote down as refused, statement by statement: a difference
//! it does not explain is a difference. What such a role cannot see (subscriptions, the options of user mappings) is told as
//! not compared.

use super::database::Difference;
use crate::postgres::allowance::OWNER;
use crate::postgres::inventory::Line;
use crate::postgres::refused::Refused;
use crate::postgres::{self, Session};

/// The kinds of lines only a superuser is shown whole.
const UNSEEN: [&str; 2] = ["subscription", "user mapping"];

/// What is excused in one proof.
pub(super) struct Excused {
    refused: Vec<Refused>,
    ours: String,
    superuser: bool,
}

impl Excused {
    /// For the session's role, what a restore wrote down as refused.
    ///
    /// # Errors
    /// The server's.
    pub async fn of(session: &Session, refused: &[Refused]) -> Result<Excused, postgres::Error> {
        let ours = session.text("asking who we are", "SELECT current_user::text").await?;
        let superuser = session.is_superuser();
        // A superuser is refused nothing, whatever is written somewhere.
        let refused = if superuser { Vec::new() } else { refused.to_vec() };
        Ok(Excused { refused, ours, superuser })
    }

    /// All of it.
    pub fn into_refused(self) -> Vec<Refused> {
        self.refused
    }

    /// The owners for whom the role could not act; what is theirs stayed its own.
    fn owners(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().filter(|refused| refused.kind == OWNER).map(|refused| refused.name.as_str())
    }

    /// Whether the owners of some objects are others, whose names stand in every statement about them.
    pub fn has_other_owners(&self) -> bool {
        self.owners().next().is_some()
    }

    /// Whether a difference is due to what was refused.
    pub fn excuses(&self, difference: &Difference) -> bool {
        let Difference { kind, object, expected, found } = difference;
        if self.refused.iter().any(|refused| refused.explains(kind, object)) {
            return true;
        }
        if !self.superuser && kind.starts_with("ddl ") {
            return UNSEEN.iter().any(|kind| object.contains(&format!("; Type: {}", kind.to_uppercase())));
        }
        match (expected, found) {
            (Some(expected), Some(found)) => {
                self.has_other_owners() && words(&self.with_our_name(expected)) == words(&self.with_our_name(found))
            }
            _ => false,
        }
    }

    /// The text with our role's name wherever it has that of an owner it could not act for.
    fn with_our_name(&self, text: &str) -> String {
        let named = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        self.owners().fold(text.to_owned(), |text, owner| {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(at) = rest.find(owner) {
                let (before, from) = rest.split_at(at);
                let after = from.get(owner.len()..).unwrap_or_default();
                let whole = !before.ends_with(named) && !after.starts_with(named);
                out.push_str(before);
                out.push_str(if whole { &self.ours } else { owner });
                rest = after;
            }
            out + rest
        })
    }

    /// Takes out of both inventories what the role cannot see, and tells it.
    pub fn unseen(&self, captured: &mut Vec<Line>, found: &mut Vec<Line>) -> Vec<String> {
        if self.superuser {
            return Vec::new();
        }
        let is_unseen = |line: &Line| UNSEEN.contains(&line.kind.as_str());
        let shown = |line: &&Line| is_unseen(line) && self.refused.iter().all(|r| !r.explains(&line.kind, &line.name));
        let told = captured.iter().filter(shown);
        let told = told.map(|line| format!("{} {}, which only a superuser sees whole", line.kind, line.name)).collect();
        captured.retain(|line| !is_unseen(line));
        found.retain(|line| !is_unseen(line));
        told
    }
}

/// The words of a definition in any order: lists of privileges are sorted by names, as JSON too.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> =
        text.split_whitespace().map(|word| word.trim_matches(['[', ']', '{', '}', ','])).collect();
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excused(kind: &str, name: &str) -> Excused {
        let refused = vec![Refused { kind: kind.into(), name: name.into(), why: String::new() }];
        Excused { refused, ours: "admin".into(), superuser: false }
    }

    fn difference(kind: &str, object: &str, expected: Option<&str>, found: Option<&str>) -> Difference {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Difference { kind: kind.into(), object: object.into(), expected: text(expected), found: text(found) }
    }

    #[test]
    fn another_owner_excuses_nothing_but_the_owner() {
        let excused = excused(OWNER, "boss");
        let is = |kind: &str, expected, found| excused.excuses(&difference(kind, "public.t", expected, found));
        assert!(is("table owner", Some("boss"), Some("admin")));
        assert!(is("table privileges", Some("boss=r/boss z=r/boss"), Some("z=r/admin admin=r/admin")));
        assert!(!is("table owner", Some("app"), Some("admin")));
        assert!(!is("table owner", Some("boss"), None));
        assert!(!is("table privileges", Some("boss=r/boss z=r/boss"), Some("admin=r/admin")));
        assert!(!is("view", Some("SELECT bossy"), Some("SELECT adminy")));
    }

    #[test]
    fn a_refused_event_trigger_excuses_no_other_missing_one() {
        let excused = excused("event trigger", "a");
        assert!(excused.excuses(&difference("event trigger", "a", Some("x"), None)));
        assert!(!excused.excuses(&difference("event trigger", "b", Some("x"), None)));
    }
}
