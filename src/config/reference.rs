//! Secrets by reference: `env:NAME`, `file:/path`, `command:program argument …`.
//!
//! A reference is resolved on the host that uses it, as late as possible, and what it yields lives in a
//! [`SecretString`]. A secret written into the configuration itself is refused.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use secrecy::SecretString;
use zeroize::Zeroize;

use super::password_file::PasswordLine;

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
    /// The program cannot be started, fails, or prints what is not UTF-8.
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
    let Some((program, arguments)) = words.split_first() else { return Err(ReferenceError::Inline) };
    let fail = |what: String| ReferenceError::Command { program: program.clone(), what };
    let output = Command::new(program)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| fail(format!("cannot be started: {e}")))?;
    if !output.status.success() {
        return Err(fail(format!("failed ({})", output.status)));
    }
    match String::from_utf8(output.stdout) {
        Ok(text) => Ok(without_newline(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(fail("printed something that is not UTF-8".to_owned()))
        }
    }
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
}
