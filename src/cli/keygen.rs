//! `warmspare keygen`.

use std::path::{Path, PathBuf};

use super::CONFIG;
use super::arguments::{KeygenCommand, Where};
use super::words;
use crate::clock::Clock;
use crate::config::HereError;
use crate::error::{Class, Error};
use crate::keygen::{self, Configured};

/// The site is taken from where `--site` is taken for every command.
pub(super) fn run(command: KeygenCommand, place: &Where, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    if let Some(typed) = &command.verify {
        return verify(typed, &command, place);
    }
    if command.escrow {
        return escrow(command, clock);
    }
    let site = place.site.clone().ok_or(HereError::NoSite)?;
    let keys = keygen::site(&site, &command.out.unwrap_or_else(|| PathBuf::from(&site)))?;
    let lines = format!(
        "[vault]\nsigners.{site} = \"{}\"\n\n[sites.{site}]\nrecipient   = \"{}\"\n\
         identity    = \"file:/etc/warmspare/identity.txt\"\nsigning_key = \"file:/etc/warmspare/signing.key\"\n",
        keys.verifying_key, keys.recipient
    );
    if command.json {
        words::json(&keys)
    } else {
        words::data(&lines)
    }
    words::say(&format!(
        "\nThe lines above go into the configuration of both sites.\n\
         {} opens what the other site writes. It belongs at {site} and nowhere else, least of all at the other site.\n\
         {} signs what {site} writes. It belongs at {site} and nowhere else.\n\
         Copy both to /etc/warmspare/ at {site} (mode 0600), then remove them here.",
        keys.identity_file.display(),
        keys.signing_key_file.display()
    ));
    Ok(None)
}

fn escrow(command: KeygenCommand, clock: &dyn Clock) -> Result<Option<Class>, Error> {
    let key = keygen::escrow(&command.out.unwrap_or_else(|| PathBuf::from("escrow.txt")), clock)?;
    if command.json {
        words::json(&key)
    } else {
        words::data(&format!("escrow = [\"{}\"]\n", key.recipient))
    }
    words::say(&format!(
        "\nThe line above goes under [vault] in the configuration of both sites.\n\
         {paper} opens every backup: print it, type it back once to see that the print is good\n\
         (warmspare keygen --escrow --verify -), keep the paper away from both sites, then run: shred -u {paper}",
        paper = key.paper_file.display(),
    ));
    Ok(None)
}

fn verify(typed: &Path, command: &KeygenCommand, place: &Where) -> Result<Option<Class>, Error> {
    let page = keygen::verify(typed, command.out.as_deref(), place.config.as_deref(), Path::new(CONFIG))?;
    if command.json {
        words::json(&page)
    } else {
        words::data(&format!("{}\n", page.recipient))
    }
    let (class, said) = match page.configured {
        Configured::Escrow => (None, "It is an escrow of the configuration: it opens every backup made with it."),
        Configured::NoConfiguration => {
            (None, "There is no configuration here; compare the recipient with `escrow` in it.")
        }
        Configured::Site => (Some(Class::Failed), "It is a site's own identity, and no page of an escrow."),
        Configured::Nobody => {
            (Some(Class::Failed), "IT IS NOT IN THE CONFIGURATION: nothing that is captured now opens with it.")
        }
    };
    words::say(&format!("The page is whole: every letter fits. {said}"));
    if let Some(file) = &page.identity_file {
        words::say(&format!("{} is the identity file; remove it when you are done: shred -u", file.display()));
    }
    Ok(class)
}
