//! libpq's password file (`~/.pgpass`, PostgreSQL documentation, "The Password File"): `host:port:database:user:password` a
//! line, `*` for any, `\` before a colon that is part of a field. The first line that fits counts.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::reference::ReferenceError;

/// Which line of which password file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordLine {
    /// The file.
    pub file: PathBuf,
    /// The host; the folder of a Unix socket matches `localhost`, too.
    pub host: String,
    /// The port.
    pub port: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
}

impl PasswordLine {
    /// The file libpq would read: `PGPASSFILE`, else `~/.pgpass`.
    pub fn file_of_libpq() -> Option<PathBuf> {
        let named = std::env::var_os("PGPASSFILE").filter(|name| !name.is_empty()).map(PathBuf::from);
        named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass")))
    }

    /// The password of the first line that fits; nothing when there is no file, or no such line.
    ///
    /// # Errors
    /// When there is a file that cannot be read, or that libpq would not use because others may read it.
    pub fn find(&self) -> Result<Option<SecretString>, ReferenceError> {
        let file = |source| ReferenceError::File { path: self.file.clone(), source };
        let facts = match std::fs::metadata(&self.file) {
            Ok(facts) if facts.is_file() => facts,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file(error)),
        };
        if facts.mode() & 0o077 != 0 {
            let what = "may be read by others, and libpq does not use it then: chmod 600".to_owned();
            return Err(ReferenceError::PasswordFile { path: self.file.clone(), what });
        }
        let text = Zeroizing::new(std::fs::read_to_string(&self.file).map_err(file)?);
        Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(|line| self.password_in(line)))
    }

    /// That no line fits, although one was counted on.
    pub fn missing(&self) -> ReferenceError {
        let what = format!("has no line for {}:{}:{}:{}", self.host, self.port, self.database, self.user);
        ReferenceError::PasswordFile { path: self.file.clone(), what }
    }

    fn password_in(&self, line: &str) -> Option<SecretString> {
        let mut rest = line;
        for wanted in [&self.host, &self.port, &self.database, &self.user] {
            let (field, after) = field(rest);
            let local = wanted == &self.host && wanted.starts_with('/') && *field == "localhost";
            if *field != "*" && *field != *wanted && !local {
                return None;
            }
            rest = after?;
        }
        let (password, _) = field(rest);
        Some(SecretString::from(password.as_str()))
    }
}

/// The first field without its escapes, and what comes after its colon.
fn field(text: &str) -> (Zeroizing<String>, Option<&str>) {
    let mut field = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, text.get(at + 1..)),
            '\\' => field.extend(characters.next().map(|(_, escaped)| escaped)),
            other => field.push(other),
        }
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn found(text: &str, host: &str, user: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let [host, port, database, user] = [host, "5432", "app", user].map(str::to_owned);
        let line = PasswordLine { file: file.path().to_owned(), host, port, database, user };
        line.find().unwrap().map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# comment\ndb:5432:other:joe:no\ndb:*:app:joe:ye\\:s\\\\\n*:*:*:*:any\n";
        assert_eq!(found(text, "db", "joe").as_deref(), Some("ye:s\\"));
        assert_eq!(found(text, "db", "ann").as_deref(), Some("any"));
        assert_eq!(found("db:5432:app:joe:x", "other", "joe"), None);
        assert_eq!(found("localhost:5432:app:joe:x", "/run/postgresql", "joe").as_deref(), Some("x"));
        assert_eq!(found("a\\:b:5432:app:joe:x", "a:b", "joe").as_deref(), Some("x"));
        assert_eq!(found("broken", "db", "joe"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_none_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let [host, port, database, user] = ["db", "5432", "app", "joe"].map(str::to_owned);
        let mut line = PasswordLine { file: file.path().to_owned(), host, port, database, user };
        assert!(line.find().unwrap_err().to_string().contains("chmod 600"));
        line.file = "/nonexistent/pgpass".into();
        assert!(line.find().unwrap().is_none());
        assert!(line.missing().to_string().ends_with("has no line for db:5432:app:joe"));
    }
}
