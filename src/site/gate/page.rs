//! What `/metrics` shows: a text that somebody else in this process wrote, held in memory.
//!
//! Whoever reads it never waits: a reader that meets the writer just as it exchanges one text for another says so, and is asked again.

use std::sync::{Arc, PoisonError, RwLock, TryLockError};

/// The text, shared by who writes it and who shows it.
#[derive(Clone, Debug, Default)]
pub struct Page(Arc<RwLock<Option<Arc<str>>>>);

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The text.
    Text(Arc<str>),
    /// Nobody has written any yet.
    Nothing,
    /// It is being exchanged just now.
    Busy,
}

impl Page {
    /// Shows `text` from now on.
    pub fn show(&self, text: String) {
        let text = Some(Arc::from(text));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text;
    }

    pub(super) fn read(&self) -> Found {
        let text = match self.0.try_read() {
            Ok(text) => text.clone(),
            Err(TryLockError::Poisoned(text)) => text.into_inner().clone(),
            Err(TryLockError::WouldBlock) => return Found::Busy,
        };
        text.map_or(Found::Nothing, Found::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_never_waits_for_the_writer() {
        let page = Page::default();
        assert_eq!(page.read(), Found::Nothing);
        page.show("a 1\n".to_owned());
        assert_eq!(page.read(), Found::Text("a 1\n".into()));
        let held = page.0.write().unwrap();
        assert_eq!(page.read(), Found::Busy, "and it came back");
        drop(held);
        assert_eq!(page.read(), Found::Text("a 1\n".into()));
    }
}
