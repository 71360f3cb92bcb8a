//! `warmspare init`.

use std::path::PathBuf;

use super::arguments::InitCommand;
use super::words;
use crate::error::{Class, Error};
use crate::init::{self, Outline};

pub(super) fn run(command: InitCommand, default: PathBuf) -> Result<Option<Class>, Error> {
    let outline = Outline { system: command.system, profile: command.profile };
    let text = init::text(&outline)?;
    let path = command.path.unwrap_or(default);
    if command.stdout {
        words::data(&text);
    } else {
        init::write(&path, &text)?;
        words::say(&format!("{} is written.", path.display()));
    }
    let (live, spare) = init::SITES;
    words::say(&format!(
        "Next:\n\
         1. Make the keys, each where it will live, and put the lines they print into the file:\n\
         \n    warmspare keygen --site {live}\n    warmspare keygen --site {spare}\n    warmspare keygen --escrow\n\n\
         2. Fill in the addresses of the database and the bucket at both sites; the rest may stay as it is.\n\
         3. Put the same file on both hosts, and the name of the site into /etc/warmspare/site of each.\n\
         4. At both:\n\
         \n    warmspare check"
    ));
    Ok(None)
}
