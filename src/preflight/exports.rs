//! The exports of the live site, gone through as a capture does: every file read, every command run, nothing kept.

use super::finding::Findings;
use super::limit::{READING_MAX, within};
use crate::capture::export;
use crate::config::Here;

/// Looks at the exports of the live site.
pub(super) async fn look(here: &Here, findings: &mut Findings) {
    for address in here.site.exports.values() {
        let object = format!("export.{}", address.name);
        let gone_through = within(READING_MAX, &object, export::digest(address)).await;
        if findings.value("export", &object, gone_through).is_some() {
            let (files, commands) = (address.files.len(), address.commands.len());
            findings.ok("export", object, format!("{files} patterns and {commands} commands can be captured"));
        }
    }
}
