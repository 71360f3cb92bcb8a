//! Secrets by reference: `env:NAME`, `file:/path`, `command:program argument …`.
//!
//! A reference is resolved on the host that uses it, as late as possible, and what it yields lives in a
//! [`SecretString`]. A secret written into the configuration itself is refused.

use std::fmt;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use secrecy::SecretString;
use zeroize::Zeroize;

use super::password_file::PasswordLine;
use crate::process::Group;

/// The longest a secret's program may take where nobody is at a terminal: it may ask a server that does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// For the last words of one that has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable of the process.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(PathBuf),
    /// The standard output of a program, started without a shell; one trailing newline is not part of the secret.
    Command(Vec<String>),
    /// A line of libpq's password file. It has no written form: who tries a database names none.
    PasswordFile(PasswordLine),
}

/// A reference that cannot be read or resolved. Never holds the secret itself.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Not one of the three forms: most likely the secret itself.
    #[error("a secret stands in the configuration itself")]
    Inline,
    /// The variable is not set, or is not UTF-8.
    #[error("environment variable {0} is not set (or is not UTF-8)")]
    Env(String),
    /// The file cannot be read.
    #[error("secret file {path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A password file that libpq would not use either.
    #[error("password file {path} {what}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// The program cannot be started, fails, does not end, or prints what is not UTF-8.
    #[error("secret command `{program}` {what}")]
    Command {
        /// Its first word.
        program: String,
        /// What it did.
        what: String,
    },
}

impl Reference {
    /// Reads a reference as written.
    ///
    /// # Errors
    /// [`ReferenceError::Inline`] when the text has none of the three forms.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Reference::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Reference::File(PathBuf::from(path))),
            Some(("command", line)) if !line.trim().is_empty() => {
                Ok(Reference::Command(line.split_whitespace().map(str::to_owned).collect()))
            }
            _ => Err(ReferenceError::Inline),
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// When the place named does not yield one; the message names the place.
    pub fn resolve(&self) -> Result<SecretString, ReferenceError> {
        match self {
            Reference::Env(name) => {
                std::env::var(name).map(SecretString::from).map_err(|_| ReferenceError::Env(name.clone()))
            }
            Reference::File(path) => std::fs::read_to_string(path)
                .map(without_newline)
                .map_err(|source| ReferenceError::File { path: path.clone(), source }),
            Reference::Command(words) => run(words),
            Reference::PasswordFile(line) => line.find()?.ok_or_else(|| line.missing()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Env(name) => write!(f, "env:{name}"),
            Reference::File(path) => write!(f, "file:{}", path.display()),
            // Arguments of a command may be private; its name is enough to find it.
            Reference::Command(words) => write!(f, "command:{} …", words.first().map_or("", String::as_str)),
            Reference::PasswordFile(line) => write!(f, "{}", line.file.display()),
        }
    }
}

fn run(words: &[String]) -> Result<SecretString, ReferenceError> {
    // A person may have to type, which only what is in the terminal's own group can ask for; and can end it.
    match std::io::stdin().is_terminal() {
        true => run_within(words, None),
        false => run_within(words, Some(ANSWER_MAX)),
    }
}

/// With a limit it is in a group of its own, of which nothing is left behind it.
fn run_within(words: &[String], limit: Option<Duration>) -> Result<SecretString, ReferenceError> {
    let Some((program, arguments)) = words.split_first() else { return Err(ReferenceError::Inline) };
    let fail = |what: String| ReferenceError::Command { program: program.clone(), what };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = match limit {
        Some(_) => Group::start(&mut command).map(|(child, group)| (child, Some(group))),
        None => command.spawn().map(|child| (child, None)),
    };
    let (child, mut group) = started.map_err(|e| fail(format!("cannot be started: {e}")))?;
    let (tells, told) = mpsc::channel();
    let reading = std::thread::Builder::new().name("secret".to_owned());
    reading.spawn(move || tells.send(read(child))).map_err(|e| fail(format!("cannot be read from: {e}")))?;
    let ended = match limit {
        Some(limit) => told.recv_timeout(limit),
        None => told.recv().map_err(RecvTimeoutError::from),
    };
    let ended = ended.map_err(|_| fail(format!("did not end within {} s", limit.unwrap_or_default().as_secs())))?;
    if let Some(group) = &mut group {
        group.ended();
    }
    let (status, printed) = ended.map_err(|e| fail(format!("cannot be read from: {e}")))?;
    if !status.success() {
        return Err(fail(format!("failed ({status})")));
    }
    match String::from_utf8(printed) {
        Ok(text) => Ok(without_newline(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(fail("printed something that is not UTF-8".to_owned()))
        }
    }
}

/// All it prints, and how it ended. What it says to people is passed on as it comes, through us: what it leaves behind would hold our
/// own standard error, and whoever reads that would wait for it.
fn read(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (says, said) = mpsc::channel::<()>();
    if let Some(mut words) = child.stderr.take() {
        let passing = std::thread::Builder::new().name("secret's words".to_owned());
        passing.spawn(move || {
            let _until_dropped = says;
            io::copy(&mut words, &mut io::stderr())
        })?;
    }
    let mut printed = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_end(&mut printed)?;
    }
    let status = child.wait()?;
    if !status.success() {
        // They are all passed on when the other end is dropped.
        let _dropped_or_late = said.recv_timeout(LAST_WORDS);
    }
    Ok((status, printed))
}

fn without_newline(mut text: String) -> SecretString {
    let kept = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).len();
    let secret = SecretString::from(text.get(..kept).unwrap_or_default());
    text.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_three_forms() {
        assert_eq!(Reference::parse("env:X").unwrap(), Reference::Env("X".into()));
        assert_eq!(Reference::parse("file:/a b").unwrap(), Reference::File("/a b".into()));
        assert_eq!(Reference::parse("command:pass show x").unwrap(), {
            Reference::Command(vec!["pass".into(), "show".into(), "x".into()])
        });
    }

    #[test]
    fn a_secret_itself_is_refused_and_not_repeated() {
        for text in ["hunter2", "", "env:", "postgres://u:p@h/d"] {
            let error = Reference::parse(text).unwrap_err();
            assert!(matches!(error, ReferenceError::Inline), "{text}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
    }

    #[test]
    fn a_file_and_a_command_lose_their_last_newline_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "two\nlines\n").unwrap();
        let secret = Reference::File(file.path().to_owned()).resolve().unwrap();
        assert_eq!(secret.expose_secret(), "two\nlines");
        let secret = Reference::parse("command:echo  spaced  out").unwrap().resolve().unwrap();
        assert_eq!(secret.expose_secret(), "spaced out");
        assert!(Reference::parse("command:false").unwrap().resolve().is_err());
    }
    /// The first of two processes that hold its output; a limit that ended the first alone would wait for the second.
    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (script, started) = (folder.path().join("script"), folder.path().join("started"));
        std::fs::write(&script, format!("sleep 1000 & echo $! >{0}; echo $$ >>{0}; wait", started.display())).unwrap();
        let words = ["/bin/sh".to_owned(), script.display().to_string()];
        let error = run_within(&words, Some(Duration::from_millis(700))).unwrap_err();
        assert_eq!(error.to_string(), "secret command `/bin/sh` did not end within 0 s");
        let pids = std::fs::read_to_string(&started).unwrap();
        assert_eq!(pids.lines().count(), 2);
        let alive = |pid: &&str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        for _ in 0..200 {
            if pids.lines().filter(alive).count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{:?} are still there", pids.lines().filter(alive).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_command_leaves_behind_with_its_standard_error_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "exec 3>&1; sleep 1000 >/dev/null 3>&- & echo $! >&3; exec 3>&-").unwrap();
        let words = ["/bin/sh".to_owned(), script.display().to_string()];
        let secret = run_within(&words, Some(Duration::from_secs(60))).unwrap();
        let left = secret.expose_secret().parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it was left running");
    }
}
