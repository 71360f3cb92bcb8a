//! Connection strings as users of PostgreSQL write them: URLs, `key=value`, and the services of a service file.
//!
//! The rules are libpq's (PostgreSQL documentation, "Connection Strings" and "The Connection Service File"). What the
//! driver does not know is taken out here; a key that neither knows is refused by name, for to ignore it might mean to
//! connect to another server or with less protection than was asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where packages of Debian and of RPM distributions keep the services of the whole host.
const HOST_FILES: [&str; 2] = ["/etc/postgresql-common/pg_service.conf", "/etc/sysconfig/pgsql/pg_service.conf"];

/// Which server of a cluster is wanted: `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Any,
    Primary,
    Standby,
    PreferStandby,
}

impl Role {
    fn named(word: &str) -> Result<Role, String> {
        match word {
            "any" => Ok(Role::Any),
            "primary" | "read-write" => Ok(Role::Primary),
            "standby" | "read-only" => Ok(Role::Standby),
            "prefer-standby" => Ok(Role::PreferStandby),
            _ => Err("invalid value for option `target_session_attrs`".to_owned()),
        }
    }

    /// What is looked for first, and then.
    pub fn in_turn(self) -> &'static [Role] {
        match self {
            Role::Any => &[Role::Any],
            Role::Primary => &[Role::Primary],
            Role::Standby => &[Role::Standby],
            Role::PreferStandby => &[Role::Standby, Role::Any],
        }
    }

    pub fn is(self, standby: bool) -> bool {
        match self {
            Role::Any | Role::PreferStandby => true,
            Role::Primary => !standby,
            Role::Standby => standby,
        }
    }
}

/// A connection string, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conninfo {
    /// What the driver understands, as `key='value' …`.
    pub driver: String,
    /// `target_session_attrs`.
    pub role: Role,
    /// `sslrootcert`: the file with the authorities to trust instead of this host's.
    pub authorities: Option<PathBuf>,
    /// `passfile`.
    pub password_file: Option<PathBuf>,
}

type Pairs = BTreeMap<String, String>;

impl Conninfo {
    /// Takes `text` apart; a service in it is looked up where libpq would.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold no value of it.
    pub fn read(text: &str) -> Result<Conninfo, String> {
        Conninfo::with_services(text, &service_files())
    }

    fn with_services(text: &str, files: &[PathBuf]) -> Result<Conninfo, String> {
        let mut pairs = match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(rest) => of_url(rest)?,
            None => of_words(text)?,
        };
        if let Some(name) = pairs.remove("service") {
            for (key, value) in service(&name, files)? {
                // What the string itself says goes before.
                pairs.entry(key).or_insert(value);
            }
        }
        if pairs.contains_key("password") {
            return Err("it holds the password itself".to_owned());
        }
        let sslmode = pairs.remove("sslmode").map(|mode| verified(&mode).map(str::to_owned)).transpose()?;
        pairs.extend(sslmode.map(|mode| ("sslmode".to_owned(), mode)));
        let role = pairs.remove("target_session_attrs").map_or(Ok(Role::Any), |word| Role::named(&word))?;
        if pairs.remove("gssencmode").is_some_and(|mode| mode == "require") {
            return Err("gssencmode=require is not supported".to_owned());
        }
        // A session of ours always bears our name.
        pairs.remove("fallback_application_name");
        let authorities = pairs.remove("sslrootcert").filter(|file| file != "system").map(PathBuf::from);
        let password_file = pairs.remove("passfile").map(PathBuf::from);
        Ok(Conninfo { driver: written(&pairs), role, authorities, password_file })
    }
}

/// libpq's two verifying modes are what we always do; the driver does not know their names.
fn verified(mode: &str) -> Result<&str, String> {
    match mode {
        "verify-ca" | "verify-full" => Ok("require"),
        "allow" => Err("sslmode=allow is not supported: say prefer, require or disable".to_owned()),
        other => Ok(other),
    }
}

fn written(pairs: &Pairs) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    pairs.iter().map(|(key, value)| format!("{key}='{}'", quoted(value))).collect::<Vec<_>>().join(" ")
}

/// What follows `postgresql://`.
fn of_url(rest: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    for (key, value) in [("user", user), ("password", password), ("dbname", database)] {
        if !value.is_empty() {
            pairs.insert(key.to_owned(), decoded(value)?);
        }
    }
    let hosts: Vec<(&str, &str)> = hosts.split(',').map(host_and_port).collect::<Result<_, _>>()?;
    if hosts.iter().any(|(host, _)| !host.is_empty()) {
        let names: Vec<&str> = hosts.iter().map(|(host, _)| *host).collect();
        pairs.insert("host".to_owned(), decoded(&names.join(","))?);
    }
    if hosts.iter().any(|(_, port)| !port.is_empty()) {
        let ports = hosts.iter().map(|(_, port)| if port.is_empty() { "5432" } else { port });
        pairs.insert("port".to_owned(), ports.collect::<Vec<_>>().join(","));
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').ok_or("a parameter of it has no value")?;
        match (decoded(key)?.as_str(), decoded(value)?) {
            ("ssl", value) if value == "true" => pairs.insert("sslmode".to_owned(), "require".to_owned()),
            (key, value) => pairs.insert(key.to_owned(), value),
        };
    }
    Ok(pairs)
}

/// `name:port`, `[address]:port`, or either alone.
fn host_and_port(text: &str) -> Result<(&str, &str), String> {
    let Some(inner) = text.strip_prefix('[') else { return Ok(text.rsplit_once(':').unwrap_or((text, ""))) };
    let (address, after) = inner.split_once(']').ok_or("an address in it has no closing bracket")?;
    Ok((address, after.strip_prefix(':').unwrap_or_default()))
}

fn decoded(text: &str) -> Result<String, String> {
    let broken = || "it has a broken percent escape".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        let [Some(high), Some(low)] = digits else { return Err(broken()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

/// `key=value key='value'`.
fn of_words(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("it is neither a URL nor key=value")?;
        let (value, after) = word(after.trim_start())?;
        pairs.insert(key.trim().to_owned(), value);
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The value at the start, without its quotes and escapes, and what follows.
fn word(text: &str) -> Result<(String, &str), String> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |inner| (true, inner));
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let after = text.get(at + character.len_utf8()..).unwrap_or_default();
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, after)),
            space if !quoted && space.is_whitespace() => return Ok((value, after)),
            other => value.push(other),
        }
    }
    if quoted { Err("a quote in it is not closed".to_owned()) } else { Ok((value, "")) }
}

/// The files libpq looks into, in its order.
fn service_files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = variable("PGSERVICEFILE").or_else(|| variable("HOME").map(|home| home.join(".pg_service.conf")));
    let hosts = match variable("PGSYSCONFDIR") {
        Some(folder) => vec![folder.join("pg_service.conf")],
        None => HOST_FILES.map(PathBuf::from).to_vec(),
    };
    own.into_iter().chain(hosts).collect()
}

/// What the first of `files` that has the service says of it.
fn service(name: &str, files: &[PathBuf]) -> Result<Pairs, String> {
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("the service file {} cannot be read: {error}", file.display())),
        };
        if let Some(pairs) = section(&text, name, file)? {
            return Ok(pairs);
        }
    }
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    Err(format!("there is no service {name} in {}", files.join(", ")))
}

/// The section of that name, if there is one.
fn section(text: &str, name: &str, file: &Path) -> Result<Option<Pairs>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines = lines.skip_while(|line| line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) != Some(name));
    if lines.next().is_none() {
        return Ok(None);
    }
    let wrong = |what: &str| format!("service {name} in {}: {what}", file.display());
    let mut pairs = Pairs::new();
    for line in lines.take_while(|line| !line.starts_with('[')) {
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("a line of it is no key=value"))?;
        match key.trim() {
            key if key.starts_with("ldap") => return Err(wrong("services in LDAP are not supported")),
            "service" => return Err(wrong("a service cannot name another")),
            key => pairs.entry(key.to_owned()).or_insert(value.trim().to_owned()),
        };
    }
    Ok(Some(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(text: &str) -> Result<String, String> {
        Conninfo::with_services(text, &[]).map(|info| info.driver)
    }

    #[test]
    fn a_url_and_words_say_the_same() {
        for (url, words) in [
            ("postgresql://hab@10.1.0.5:6543/builder", "user=hab host = 10.1.0.5 port=6543 dbname='builder'"),
            ("postgres://%2Frun%2Fpostgresql/it%27s", r"host=/run/postgresql dbname='it\'s'"),
            ("postgresql:///d?host=/run/pg&port=5433&user=a%20b", "dbname=d host=/run/pg port=5433 user='a b'"),
            ("postgresql://a,[::1]:6543/d", "host=a,::1 port=5432,6543 dbname=d"),
            ("postgresql://a/d?ssl=true", r"host=a dbname=d sslmode=re\quire"),
            ("postgresql://a@h/d?sslmode=verify-full&host=other", "user=a host=other dbname=d sslmode=verify-ca"),
        ] {
            assert_eq!(driver(url), driver(words), "{url}");
        }
        let odd = driver(r"host=h dbname='a\\b\'c d'").unwrap();
        assert_eq!(odd, r"dbname='a\\b\'c d' host='h'");
    }

    #[test]
    fn what_the_driver_does_not_know_is_taken_out() {
        let info = Conninfo::with_services(
            "postgresql://a/d?target_session_attrs=read-write&sslrootcert=/ca%20.pem&passfile=/p&gssencmode=disable&options=-c%20x%3Dsslmode%3Dverify-full",
            &[],
        );
        let info = info.unwrap();
        assert_eq!(info.driver, "dbname='d' host='a' options='-c x=sslmode=verify-full'");
        assert_eq!((info.role, info.authorities.unwrap()), (Role::Primary, PathBuf::from("/ca .pem")));
        assert_eq!(info.password_file.unwrap(), PathBuf::from("/p"));
        let system = Conninfo::with_services("host=a dbname=d sslrootcert=system", &[]).unwrap();
        assert_eq!(system.authorities, None);
    }

    #[test]
    fn a_service_fills_in_what_the_string_leaves_open() {
        let folder = tempfile::tempdir().unwrap();
        let [own, hosts] = ["own", "hosts"].map(|name| folder.path().join(name));
        std::fs::write(&own, "# mine\n[other]\nhost=x\n\n[app]\nhost=db1\nport = 6543\nuser=hab\n[last]\n").unwrap();
        std::fs::write(&hosts, "[app]\nhost=y\n[fleet]\nhost=db9\n[in]\nservice=app\n[l]\nldap://x\n").unwrap();
        let read = |text: &str| {
            let files = [folder.path().join("none"), own.clone(), hosts.clone()];
            Conninfo::with_services(text, &files).map(|info| info.driver)
        };
        assert_eq!(read("service=app dbname=d user=me").unwrap(), "dbname='d' host='db1' port='6543' user='me'");
        assert_eq!(read("postgresql:///d?service=fleet").unwrap(), "dbname='d' host='db9'");
        assert_eq!(read("service=last").unwrap(), "");
        assert!(read("service=nobody").unwrap_err().starts_with("there is no service nobody in /"));
        assert!(read("service=in").unwrap_err().ends_with("hosts: a service cannot name another"));
        assert!(read("service=l").is_err());
    }

    #[test]
    fn what_is_broken_is_said_without_repeating_it() {
        for (text, what) in [
            ("postgresql://hab:hunter2@h/d", "it holds the password itself"),
            ("postgresql://h/d?password=hunter2", "it holds the password itself"),
            ("postgresql://h/d%zz", "it has a broken percent escape"),
            ("postgresql://h/d?sslmode", "a parameter of it has no value"),
            ("postgresql://[::1/d", "an address in it has no closing bracket"),
            ("host='h", "a quote in it is not closed"),
            ("builder", "it is neither a URL nor key=value"),
            ("host=h sslmode=allow", "sslmode=allow is not supported: say prefer, require or disable"),
            ("host=h gssencmode=require", "gssencmode=require is not supported"),
            ("host=h target_session_attrs=best", "invalid value for option `target_session_attrs`"),
        ] {
            assert_eq!(driver(text).unwrap_err(), what);
        }
    }
}
