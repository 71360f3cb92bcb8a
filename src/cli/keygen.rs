//! `warmspare keygen`.

use std::path::PathBuf;

use super::arguments::KeygenCommand;
use super::words;
use crate::config::HereError;
use crate::error::{Class, Error};
use crate::keygen;

/// The site is taken from where `--site` is taken for every command.
pub(super) fn run(command: KeygenCommand, site: Option<String>) -> Result<Option<Class>, Error> {
    if command.escrow {
        let key = keygen::escrow(&command.out.unwrap_or_else(|| PathBuf::from("escrow.txt")))?;
        let line = format!("escrow = [\"{}\"]\n", key.recipient);
        if command.json {
            words::json(&key)
        } else {
            words::data(&line)
        }
        words::say(&format!(
            "\nThe line above goes under [vault] in the configuration of both sites.\n\
             {} opens every backup: print it, keep the page away from both sites, then run: shred -u {}",
            key.paper_file.display(),
            key.paper_file.display()
        ));
        return Ok(None);
    }
    let site = site.ok_or(HereError::NoSite)?;
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
