//! A configuration file to fill in: ten lines that matter, everything else as a comment with its default.
//!
//! The keys of `keygen` are what is blank. A blank is no key, so that a file that was not filled in is refused with the line.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{Profile, ProfileError, is_plain_name};
use crate::error::{Class, Explain};

/// The names of the two sites in the file: live, spare.
pub const SITES: (&str, &str) = ("ams", "fra");

/// What the file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The name of the system.
    pub system: String,
    /// Its profile.
    pub profile: String,
}

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one.
    #[error("{path} is there already, and is left as it is")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{path} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name cannot name a system.
    #[error("`{system}` cannot be the name of a system")]
    System {
        /// The name.
        system: String,
    },
    /// There is no such profile.
    #[error("profile `{profile}`")]
    Profile {
        /// Its name.
        profile: String,
        /// Why.
        source: ProfileError,
    },
}

impl Explain for InitError {
    fn class(&self) -> Class {
        match self {
            InitError::Exists { .. } => Class::Refused,
            InitError::Write { .. } => Class::Failed,
            InitError::System { .. } | InitError::Profile { .. } => Class::Usage,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            InitError::Exists { .. } => "Name another path, or look at the new one with --stdout.",
            InitError::Write { .. } => "Run it as a user who may write there, or name another path.",
            InitError::System { .. } => {
                "Use at most 40 lower-case letters, digits, `-` and `_`, beginning with a letter or digit."
            }
            InitError::Profile { .. } => "Use a built-in profile, or a folder (with a slash) of your own.",
        };
        Some(text.to_owned())
    }
}

/// The text of the file.
///
/// # Errors
/// [`InitError::System`] and [`InitError::Profile`] when the outline names what cannot be.
pub fn text(outline: &Outline) -> Result<String, InitError> {
    let Outline { system, profile } = outline;
    if !is_plain_name(system) {
        return Err(InitError::System { system: system.clone() });
    }
    Profile::load(profile).map_err(|source| InitError::Profile { profile: profile.clone(), source })?;
    let (live, spare) = SITES;
    let profile = match profile.as_str() {
        "minimal" => {
            "# profile = \"minimal\"                # or a folder of yours with schedule.toml and restore.toml"
                .to_owned()
        }
        other => format!("profile = {other:?}"),
    };
    Ok(TEMPLATE
        .replace("SYSTEM", system)
        .replace("PROFILE-LINE", &profile)
        .replace("LIVE", live)
        .replace("SPARE", spare))
}

/// Writes the file, and the folder it goes into; never over one that is there.
///
/// # Errors
/// [`InitError::Exists`], [`InitError::Write`].
pub fn write(path: &Path, text: &str) -> Result<(), InitError> {
    let wrong = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists { path: path.to_owned() },
        _ => InitError::Write { path: path.to_owned(), source },
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| InitError::Write { path: folder.to_owned(), source })?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)
}

const TEMPLATE: &str = r#"# warmspare: one file, the same at both sites. docs/CONFIGURATION.md explains every key.
# Fill in what is <blank>; a line that begins with # shows a default, or what else can be said.
# Secrets are named, never written: file:/path, env:NAME or command:PROGRAM, fetched on the host that uses them.

system = "SYSTEM"
live   = "LIVE"                          # the site that takes traffic; the other one is the spare
PROFILE-LINE

# The vault holds every recovery point, sealed. Its folder must exist at both sites (a network mount).
# escrow:  `warmspare keygen --escrow`; opens everything; print it, keep it away from both sites.
# signers: `warmspare keygen --site NAME` prints them; what they did not sign is not believed.
vault = { url = "/srv/vault", escrow = ["<age1… of the escrow>"], signers = { LIVE = "<ed25519:… of LIVE>", SPARE = "<ed25519:… of SPARE>" } }

# [capture]
# workers = 4                            # tables copied at once, 1 to 64; the number of cores, 2 to 8, unless said
# xmin_age_max = 10000000                # a capture ends when its snapshot kept vacuum from so many transactions
# chunks  = "auto"                       # by the size of the databases; or "fine", "small", "large"

# What `warmspare run` does by itself is in the profile; keys written here lie over it (schedules/README.md).
# [jobs.capture]
# at   = "17 * * * *"                    # as in crontab(5), with "@daily" and a field of seconds if you like
# zone = "UTC"                           # or "Europe/Berlin"
# [targets]
# point  = "2h"                          # how old the newest recovery point may be, for `warmspare report` and alarms
# proven = "26h"                         # and the newest that a restore has proven equal
# [notify.chat]                          # whom alarms are told; also webhook, ping, smtp, command: `warmspare notify test` tries it
# kind = "slack"
# url  = "file:/etc/warmspare/slack"     # the address is a secret

# The same names at both sites, each with its own address.
[sites.LIVE]
recipient         = "<age1… of LIVE>"    # printed by `warmspare keygen --site LIVE`
databases.SYSTEM  = { url = "postgresql://warmspare@127.0.0.1/SYSTEM", password = "file:/etc/warmspare/pg" }
buckets.artifacts = { url = "/srv/artifacts-LIVE" }
# state           = "/var/lib/warmspare" # this site's memory; mode 0700
# identity        = "file:/etc/warmspare/identity.txt"   # made by keygen; needed where you restore
# signing_key     = "file:/etc/warmspare/signing.key"    # made by keygen
# A bucket on an S3 server; the live site needs the credentials of both sites' buckets:
# buckets.artifacts = { url = "s3://artifacts", endpoint = "https://10.1.0.6:9000", region = "us-east-1", credentials = "file:/etc/warmspare/s3" }
# More of a database: application_roles = ["app"], sequence_gap = 10000, rate = "50MiB", programs = "/usr/lib/postgresql/15/bin"
# Secrets and configuration of the application; files are paths or patterns below root, "?" before one lets it be absent:
# exports.configs = { root = "/", files = ["/etc/SYSTEM/*"], commands = { version = ["SYSTEM", "--version"] } }

[sites.SPARE]
recipient         = "<age1… of SPARE>"
databases.SYSTEM  = { url = "postgresql://warmspare@127.0.0.1/SYSTEM", password = "file:/etc/warmspare/pg" }
buckets.artifacts = { url = "/srv/artifacts-SPARE" }
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::keys::{Identity, SigningKey};

    fn outline() -> Outline {
        Outline { system: "builder".to_owned(), profile: "minimal".to_owned() }
    }

    #[test]
    fn filled_in_it_is_understood_and_in_blank_it_is_refused_with_its_line() {
        let text = text(&outline()).unwrap();
        let blank = Config::parse(Path::new("w.toml"), &text).unwrap_err();
        assert!(blank.to_string().starts_with("w.toml:12: "), "{blank}");
        let mut filled = text;
        while let Some(at) = filled.find("\"<") {
            let end = at + 1 + filled[at + 1..].find('"').unwrap();
            let public = match filled[at..].starts_with("\"<age") {
                true => Identity::generate().recipient().to_string(),
                false => SigningKey::generate().unwrap().verifying_key().to_string(),
            };
            filled.replace_range(at + 1..end, &public);
        }
        let config = Config::parse(Path::new("w.toml"), &filled).unwrap();
        assert_eq!(
            (config.system.as_str(), config.live.as_deref(), config.sources().len()),
            ("builder", Some("ams"), 2)
        );
        assert_eq!(config.site("fra").unwrap().state, Path::new("/var/lib/warmspare"));
        let lines = filled.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(lines.count(), 11, "the simple case stays simple");
    }

    /// What stands in a comment must be true, too.
    #[test]
    fn every_commented_line_can_be_said() {
        let text = text(&outline()).unwrap();
        for key in [
            "profile",
            "workers",
            "xmin_age_max",
            "chunks",
            "targets",
            "notify.chat",
            "rate",
            "zone",
            "state",
            "identity",
            "signing_key",
            "exports.configs",
            "root",
        ] {
            assert!(text.contains(key), "{key}");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
            let is_setting = line.split_once(" = ").is_some_and(|(key, _)| !key.trim().contains(' '));
            assert!(!is_setting || toml::from_str::<toml::Table>(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/warmspare.toml");
        write(&path, "mine").unwrap();
        let error = write(&path, "new").unwrap_err();
        assert_eq!(error.class().exit_code(), 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let odd = Outline { system: "My App".to_owned(), ..outline() };
        assert!(matches!(super::text(&odd), Err(InitError::System { .. })));
    }
}
