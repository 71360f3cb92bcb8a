//! PostgreSQL's client programs: found per major version, run without a shell.
//!
//! `pg_dump` writes an archive of the definitions once, on the snapshot we exported; `pg_restore` then turns the archive
//! into the two scripts without asking the server again. One run means one set of locks and one reading of the catalogs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::catalog;
use super::connect::Server;
use super::error::Error;
use super::quote;
use super::session::Session;

/// Where Debian's packages put every major's programs.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Where RPM packages put them is `/usr/pgsql-<major>/bin`.
const RPM: &str = "/usr";
/// The definitions of a database; far above anything real, far below what hurts.
const ARCHIVE_BYTES_MAX: u64 = 512 << 20;
/// The part of a program's standard error that is shown.
const WORDS_BYTES_MAX: usize = 2_000;

/// `pg_dump` and the `pg_restore` beside it.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    version: String,
    major: u32,
}

/// The definitions of a database as SQL, without what differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definitions {
    /// What must exist before rows are loaded: schemas, types, functions, tables.
    pub pre_data: String,
    /// What is better made afterwards: indexes, constraints, triggers, rules, policies.
    pub post_data: String,
}

impl Programs {
    /// The client programs for this server: of the same major version if possible, else of the next newer one.
    ///
    /// # Errors
    /// [`Error::Program`] when there is none, or `given` (a folder from the configuration) has an older one.
    pub async fn find(given: Option<&Path>, session: &Session) -> Result<Programs, Error> {
        let needed = session.version() / 10_000;
        let fail = |found: String| Error::Program { program: "pg_dump", needed, place: session.place().clone(), found };
        let folders = given.map_or_else(installed, |folder| vec![folder.to_owned()]);
        let mut found: Vec<Programs> = Vec::new();
        let mut trouble = Vec::new();
        for folder in folders {
            match version(&folder).await {
                Ok(programs) => found.push(programs),
                Err(what) => trouble.push(format!("{}: {what}", folder.display())),
            }
        }
        found.sort_by_key(|programs| programs.major);
        if let Some(programs) = found.iter().find(|programs| programs.major >= needed) {
            return Ok(programs.clone());
        }
        let old = found.iter().map(|p| format!("{} has {}", p.folder.display(), p.version));
        let all: Vec<String> = old.chain(trouble).collect();
        Err(fail(if all.is_empty() { "none is installed on this host".to_owned() } else { all.join("; ") }))
    }

    /// The major version in what a program says of itself: `pg_dump (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`.
    pub fn major_of(version: &str) -> Option<u32> {
        let number = version.split_whitespace().nth(2).unwrap_or_default();
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }

    /// What `pg_dump --version` says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Checks that the `pg_restore` beside it can read what it writes.
    ///
    /// # Errors
    /// [`Error::Program`] when it is missing, cannot be started or is of an older major version.
    pub async fn check_restore(&self, session: &Session) -> Result<(), Error> {
        let place = session.place().clone();
        let found = match version_of(&self.folder, "pg_restore").await {
            Ok((_, major)) if major >= self.major => return Ok(()),
            Ok((version, _)) => format!("{} has {version} beside {}", self.folder.display(), self.version),
            Err(what) => format!("{}: {what}", self.folder.display()),
        };
        Err(Error::Program { program: "pg_restore", needed: self.major, place, found })
    }

    /// The definitions as of the exported `snapshot`. `label` is what the session is called in `pg_stat_activity`.
    ///
    /// # Errors
    /// [`Error::ProgramFailed`] with the program's words.
    pub async fn definitions(
        &self,
        server: &Server,
        session: &Session,
        snapshot: Option<&str>,
        label: &str,
        lock_timeout_ms: u64,
    ) -> Result<Definitions, Error> {
        let archive = self.dump(server, session, snapshot, label, lock_timeout_ms).await?;
        let pre_data = self.script(session, &archive, "pre-data").await?;
        let post_data = self.script(session, &archive, "post-data").await?;
        Ok(Definitions { pre_data, post_data })
    }

    async fn dump(
        &self,
        server: &Server,
        session: &Session,
        snapshot: Option<&str>,
        label: &str,
        lock_timeout_ms: u64,
    ) -> Result<Vec<u8>, Error> {
        let mut command = self.command("pg_dump");
        command
            .args(["--format=custom", "--compress=0", "--encoding=UTF8", "--no-password"])
            // Where large objects belong to a section depends on the version; they are carried natively.
            .args(["--section=pre-data", "--section=post-data", "--no-blobs"])
            .arg(format!("--lock-wait-timeout={lock_timeout_ms}"));
        for schema in catalog::scratch_schemas(session).await? {
            command.arg(format!("--exclude-schema={}", quote::identifier(&schema)));
        }
        if let Some(snapshot) = snapshot {
            command.arg(format!("--snapshot={snapshot}"));
        }
        self.connection(&mut command, server, session, label).await?;
        run(session, "pg_dump", command, Vec::new()).await
    }

    async fn script(&self, session: &Session, archive: &[u8], section: &str) -> Result<String, Error> {
        let mut command = self.command("pg_restore");
        command.args(["--format=custom", "--file=-"]).arg(format!("--section={section}"));
        let text = run(session, "pg_restore", command, archive.to_vec()).await?;
        let text = String::from_utf8(text).map_err(|_| Error::ProgramFailed {
            place: session.place().clone(),
            program: "pg_restore".to_owned(),
            what: format!("its {section} script is not UTF-8"),
        })?;
        Ok(super::script::stable(&text))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env_clear().env("LC_ALL", "C").kill_on_drop(true);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// The way to the server goes through the child's environment: its arguments are visible to every user of the host.
    async fn connection(
        &self,
        command: &mut Command,
        server: &Server,
        session: &Session,
        label: &str,
    ) -> Result<(), Error> {
        let endpoint = server.endpoint(session).ok_or_else(|| Error::ProgramFailed {
            place: session.place().clone(),
            program: "pg_dump".to_owned(),
            what: "it was not told a host".to_owned(),
        })?;
        command
            .env("PGHOST", endpoint.host)
            .env("PGPORT", endpoint.port.to_string())
            .env("PGDATABASE", &session.place().database)
            .env("PGAPPNAME", label)
            .env("PGCONNECT_TIMEOUT", "10")
            // libpq would else read ~/.pgpass and ~/.postgresql of whoever runs us.
            .env("PGPASSFILE", "/dev/null")
            .env("PGCHANNELBINDING", endpoint.channel_binding)
            .env("PGSSLNEGOTIATION", endpoint.negotiation);
        if let Some(address) = endpoint.address {
            command.env("PGHOSTADDR", address);
        }
        if let Some(user) = endpoint.user {
            command.env("PGUSER", user);
        }
        if let Some(password) = endpoint.password {
            command.env("PGPASSWORD", password.expose_secret());
        }
        let sql = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.one("asking whether TLS is used", sql, &[]).await?;
        if session.cell(&row, 0)? {
            command.env("PGSSLMODE", "verify-full");
            if let Some(bundle) = endpoint.authorities.or_else(|| authorities().map(PathBuf::from)) {
                command.env("PGSSLROOTCERT", bundle);
            }
        } else {
            command.env("PGSSLMODE", "disable");
        }
        Ok(())
    }
}

/// The file with this host's authorities, which libpq, other than rustls, wants to be told.
fn authorities() -> Option<&'static str> {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"]
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// The folders in which client programs are installed on this host: where packages put them, and those of `PATH`.
pub fn installed() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (wrapped, own): (Vec<PathBuf>, Vec<PathBuf>) =
        std::env::split_paths(&path).partition(|folder| is_wrapped(folder));
    let mut folders = packaged();
    folders.extend(own);
    folders.retain(|folder| folder.join("pg_dump").exists());
    // The wrapper chooses a version by its own rules: only where nothing else is found.
    if folders.is_empty() { wrapped } else { folders }
}

/// The folders in which packages put the programs of each major version.
pub fn packaged() -> Vec<PathBuf> {
    let list = |root: &str| {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let rpm = list(RPM)
        .into_iter()
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("pgsql-")));
    list(DEBIAN).into_iter().chain(rpm).map(|folder| folder.join("bin")).collect()
}

/// Whether `pg_dump` there is Debian's wrapper.
fn is_wrapped(folder: &Path) -> bool {
    std::fs::canonicalize(folder.join("pg_dump")).is_ok_and(|path| path.ends_with("pg_wrapper"))
}

async fn version(folder: &Path) -> Result<Programs, String> {
    let (version, major) = version_of(folder, "pg_dump").await?;
    Ok(Programs { folder: folder.to_owned(), version, major })
}

/// What a program says of itself, and its major version.
async fn version_of(folder: &Path, program: &str) -> Result<(String, u32), String> {
    let output = Command::new(folder.join(program))
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match Programs::major_of(&text) {
        Some(major) => Ok((text, major)),
        None => Err(format!("{program} --version says `{text}`")),
    }
}

/// What a program of PostgreSQL says when the server is gone, rather than when the server refuses something.
const LOST: [&str; 3] = ["server closed the connection", "terminating connection", "connection to server at"];

/// Runs a program to its end: `input` to its standard input, its standard output back.
async fn run(session: &Session, program: &str, mut command: Command, input: Vec<u8>) -> Result<Vec<u8>, Error> {
    let fail =
        |what: String| Error::ProgramFailed { place: session.place().clone(), program: program.to_owned(), what };
    let io = |error: std::io::Error| fail(error.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| fail(format!("it cannot be started: {error}")))?;
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(fail("it has no pipes".to_owned()));
    };
    let feed = async move {
        let written = stdin.write_all(&input).await;
        drop(stdin);
        match written {
            // A program that needs no more of its input than the table of contents may close it early.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    };
    let (mut output, mut words) = (Vec::new(), Vec::new());
    let collect = async {
        // The pipe closes with `limited`, so that a program which writes too much ends instead of waiting for us.
        let mut limited = stdout.take(ARCHIVE_BYTES_MAX + 1);
        limited.read_to_end(&mut output).await
    };
    tokio::try_join!(feed, collect, stderr.read_to_end(&mut words)).map_err(io)?;
    if output.len() as u64 > ARCHIVE_BYTES_MAX {
        return Err(fail(format!("it wrote more than {} of definitions", crate::units::Bytes(ARCHIVE_BYTES_MAX))));
    }
    let status = child.wait().await.map_err(io)?;
    if status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&words);
    let start = text.char_indices().rev().nth(WORDS_BYTES_MAX).map_or(0, |(at, _)| at);
    let what = format!("{status}: {}", text.get(start..).unwrap_or_default().trim());
    if what.contains("conflict with recovery") {
        let doing = format!("{program} read the definitions");
        return Err(Error::RecoveryConflict { place: session.place().clone(), doing, what });
    }
    if LOST.iter().any(|words| what.contains(words)) {
        let doing = format!("{program} read the definitions");
        return Err(Error::Lost { place: session.place().clone(), doing, what });
    }
    Err(fail(what))
}
