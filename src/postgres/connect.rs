//! From an address in the configuration to a session.
//!
//! Understood are `postgresql://…` URLs and `key=value` strings with one or more hosts (TCP or the folder of a Unix socket) and
//! `sslmode` `disable`, `prefer`, `require`, `verify-full`. Whenever TLS is used the certificate is verified against
//! the host's authorities; there is no mode that encrypts to somebody unknown.
//!
//! Several hosts are one cluster: they are tried in their order, and the first that is what `target_session_attrs` asks for
//! is taken. `read-write` and `primary` are the same here, and so are `read-only` and `standby`: what counts is whether the
//! server is in recovery, not `default_transaction_read_only`, which we set ourselves.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{Error, Place};
use super::session::Session;
use crate::config::address::DatabaseAddress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What TCP sent and nobody acknowledged for this long ends the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// What every session of ours is called in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "warmspare";

/// One server, or the servers of one cluster, as one role sees them: makes sessions to their databases.
#[derive(Clone)]
pub struct Server {
    hosts: Vec<Way>,
    role: Role,
    password: Option<SecretString>,
    tls: MakeRustlsConnect,
    database: String,
    read_only: bool,
}

/// The way to one host.
#[derive(Clone)]
struct Way {
    config: Config,
    /// Host and port, or the folder of the socket.
    label: String,
    /// Whether it leads to this host.
    is_local: bool,
}

/// Which server of a cluster is wanted: `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Any,
    Primary,
    Standby,
    PreferStandby,
}

/// Where and how a client program connects to the same server.
pub(super) struct Endpoint {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<SecretString>,
}

impl Server {
    /// Reads the address; `password` is what its reference yielded on this host.
    ///
    /// # Errors
    /// [`Error::Address`] when the URL cannot be used, [`Error::Tls`] when this host's certificates cannot be read.
    pub fn new(address: &DatabaseAddress, password: Option<SecretString>) -> Result<Server, Error> {
        let wrong = |what: &str| Error::Address { name: address.name.clone(), what: what.to_owned() };
        let (url, role) = with_role(&address.url);
        let config: Config = without_verify_modes(&url).parse().map_err(|error: tokio_postgres::Error| {
            // The driver's cause names the key it stumbled over, never a value.
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            wrong(&cause)
        })?;
        if config.get_password().is_some() {
            return Err(wrong("it holds the password itself"));
        }
        let database = config.get_dbname().map(str::to_owned).ok_or_else(|| wrong("it names no database"))?;
        let hosts = config.get_hosts().to_vec();
        if hosts.is_empty() {
            return Err(wrong("it names no host"));
        }
        let ports = config.get_ports().to_vec();
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(wrong("it has another number of ports than of hosts"));
        }
        let port = |number: usize| ports.get(number).or(ports.first()).copied().unwrap_or(5432);
        let ways = hosts.iter().enumerate().map(|(number, host)| way(&config, number, host, port(number)));
        let mut hosts: Vec<Way> = ways.collect();
        for way in &mut hosts {
            prepare(&mut way.config, password.as_ref());
        }
        let place = Place { database: database.clone(), host: labels(&hosts) };
        let tls = MakeRustlsConnect::new(verifying(&place)?);
        Ok(Server { hosts, role, password, tls, database, read_only: false })
    }

    /// The same server, in sessions that can change nothing: the server itself refuses whatever would write.
    pub fn read_only(self) -> Server {
        Server { read_only: true, ..self }
    }

    /// Whether the address leads to this host alone: the folder of a socket, or loopback. A tunnel looks like it, too.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|way| way.is_local)
    }

    /// Each host and its port, or the folder of the socket and the port.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|way| way.label.as_str())
    }

    /// The role the address names, if it names one.
    pub fn user(&self) -> Option<&str> {
        self.hosts.first().and_then(|way| way.config.get_user())
    }

    /// The database the address names.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where a database of this server is, for messages.
    pub fn place(&self, database: &str) -> Place {
        Place { database: database.to_owned(), host: labels(&self.hosts) }
    }

    /// The one server, out of several, that the session is at: a snapshot is shared within one server only.
    pub fn of(&self, session: &Session) -> Server {
        let hosts = self.hosts.iter().filter(|way| way.label == session.place().host).cloned().collect();
        Server { hosts, role: Role::Any, ..self.clone() }
    }

    /// A session to the database the address names.
    ///
    /// # Errors
    /// When the server cannot be reached, does not accept us, or has no such database.
    pub async fn connect(&self) -> Result<Session, Error> {
        self.connect_to(&self.database).await
    }

    /// A session to the database every server has, from which others are created and renamed.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub async fn maintenance(&self) -> Result<Session, Error> {
        // A session can neither rename nor close the database it is in.
        self.connect_to(if self.database == "postgres" { "template1" } else { "postgres" }).await
    }

    /// A session to `database`.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub async fn connect_to(&self, database: &str) -> Result<Session, Error> {
        let mut failed = Vec::new();
        for role in self.role.in_turn() {
            for way in &self.hosts {
                match self.connect_by(way, database).await {
                    Ok(session) if role.is(session.is_standby()) => return Ok(session),
                    Ok(session) => {
                        let what = if session.is_standby() { "it is a standby" } else { "it is no standby" };
                        failed.push(Error::Unreachable { place: session.place().clone(), what: what.to_owned() });
                        session.close().await;
                    }
                    Err(error) => failed.push(error),
                }
            }
        }
        Err(together(self.place(database), failed))
    }

    async fn connect_by(&self, way: &Way, database: &str) -> Result<Session, Error> {
        let place = Place { database: database.to_owned(), host: way.label.clone() };
        let mut config = way.config.clone();
        config.dbname(database);
        let user = config.get_user().unwrap_or("(the operating system's)").to_owned();
        let (client, connection) =
            config.connect(self.tls.clone()).await.map_err(|error| Error::of_connect(&place, &user, error))?;
        let ending = Arc::new(OnceLock::new());
        let said = ending.clone();
        let connection = tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            if let Err(error) = connection.as_mut().await {
                tracing::debug!(%error, "a database connection ended");
                // Before the connection is dropped, by which whoever waits for an answer is told.
                said.get_or_init(|| error);
            }
        });
        let session = Session::pinned(client, connection, ending, place).await?;
        if self.read_only {
            session.execute("making the session read-only", "SET default_transaction_read_only = on").await?;
        }
        Ok(session)
    }

    /// Where a client program finds the server that the session is at.
    pub(super) fn endpoint(&self, session: &Session) -> Option<Endpoint> {
        let way = self.hosts.iter().find(|way| way.label == session.place().host)?;
        let host = match way.config.get_hosts().first()? {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        Some(Endpoint {
            host,
            port: way.config.get_ports().first().copied()?,
            user: way.config.get_user().map(str::to_owned),
            password: self.password.clone(),
        })
    }
}

impl Role {
    /// What is looked for first, and then.
    fn in_turn(self) -> &'static [Role] {
        match self {
            Role::Any => &[Role::Any],
            Role::Primary => &[Role::Primary],
            Role::Standby => &[Role::Standby],
            Role::PreferStandby => &[Role::Standby, Role::Any],
        }
    }

    fn is(self, standby: bool) -> bool {
        match self {
            Role::Any | Role::PreferStandby => true,
            Role::Primary => !standby,
            Role::Standby => standby,
        }
    }
}

fn labels(hosts: &[Way]) -> String {
    hosts.iter().map(|way| way.label.as_str()).collect::<Vec<_>>().join(",")
}

/// The way to one of the hosts of `config`, every option of which holds for each of them.
fn way(config: &Config, number: usize, host: &Host, port: u16) -> Way {
    let mut alone = Config::new();
    let (label, is_local) = match host {
        Host::Tcp(name) => {
            alone.host(name);
            (format!("{name}:{port}"), is_loopback(name))
        }
        Host::Unix(folder) => {
            alone.host_path(folder);
            (format!("{}:{port}", folder.display()), true)
        }
    };
    alone.port(port).ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    alone.channel_binding(config.get_channel_binding());
    if let Some(address) = config.get_hostaddrs().get(number) {
        alone.hostaddr(*address);
    }
    if let Some(user) = config.get_user() {
        alone.user(user);
    }
    if let Some(options) = config.get_options() {
        alone.options(options);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        alone.connect_timeout(*timeout);
    }
    if is_local && config.get_ssl_mode() == SslMode::Prefer {
        // Nothing to gain on the way to ourselves, and Debian's own certificate would be refused.
        alone.ssl_mode(SslMode::Disable);
    }
    Way { config: alone, label, is_local }
}

/// What every connection of ours has, whatever the address says.
fn prepare(config: &mut Config, password: Option<&SecretString>) {
    config
        .application_name(APPLICATION_NAME)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if let Some(password) = password {
        config.password(password.expose_secret());
    }
}

/// One error of several hosts: the one that says more than that a host is not there or not what is wanted, else all.
fn together(place: Place, mut failed: Vec<Error>) -> Error {
    let telling = failed.iter().position(|error| !matches!(error, Error::Unreachable { .. }));
    if let Some(at) = telling.or(if failed.len() == 1 { Some(0) } else { None }) {
        return failed.swap_remove(at);
    }
    let each = failed.into_iter().filter_map(|error| match error {
        Error::Unreachable { place, what } => Some(format!("{}: {what}", place.host)),
        _ => None,
    });
    let mut whats: Vec<String> = each.collect();
    whats.dedup();
    Error::Unreachable { place, what: whats.join("; ") }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} at {})", self.database, labels(&self.hosts))
    }
}

/// The connection string without its `target_session_attrs`, and what that asked for. A word we do not know stays, for the
/// driver to refuse.
fn with_role(url: &str) -> (String, Role) {
    const KEY: &str = "target_session_attrs=";
    let Some(at) = url.find(KEY) else { return (url.to_owned(), Role::Any) };
    let value = url.get(at + KEY.len()..).unwrap_or_default();
    let word = value.split(['&', ' ', '\t', '\n']).next().unwrap_or_default();
    let role = match word.trim_matches('\'') {
        "any" => Role::Any,
        "primary" | "read-write" => Role::Primary,
        "standby" | "read-only" => Role::Standby,
        "prefer-standby" => Role::PreferStandby,
        _ => return (url.to_owned(), Role::Any),
    };
    (url.replacen(&format!("{KEY}{word}"), &format!("{KEY}any"), 1), role)
}

/// libpq's two verifying modes are what we always do; the driver does not know their names.
fn without_verify_modes(url: &str) -> String {
    url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require")
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS that verifies against the authorities this host trusts.
fn verifying(place: &Place) -> Result<rustls::ClientConfig, Error> {
    let fail = |what: String| Error::Tls { place: place.clone(), what };
    let mut roots = rustls::RootCertStore::empty();
    // A host without any authority is fine as long as no TLS is asked for: then the handshake names the unknown issuer.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, Error> {
        let address = DatabaseAddress {
            name: "builder".into(),
            url: url.into(),
            password: None,
            application_roles: Vec::new(),
            programs: None,
        };
        Server::new(&address, None)
    }

    #[test]
    fn urls_and_key_value_strings_are_understood() {
        for (url, place) in [
            ("postgresql://hab@10.1.0.5/builder", "database builder at 10.1.0.5:5432"),
            ("host=10.1.0.5 port=6543 dbname=builder sslmode=verify-full", "database builder at 10.1.0.5:6543"),
            ("postgresql:///builder?host=/run/postgresql", "database builder at /run/postgresql:5432"),
            ("postgresql://a,b:6543/builder?target_session_attrs=primary", "database builder at a:5432,b:6543"),
            ("host=a,b port=6543 dbname=builder", "database builder at a:6543,b:6543"),
        ] {
            let server = server(url).unwrap();
            assert_eq!(server.place(server.database()).to_string(), place);
        }
    }

    #[test]
    fn the_wanted_role_is_read_as_libpq_writes_it() {
        for (url, rest, role) in [
            ("postgresql://a/d", "postgresql://a/d", Role::Any),
            (
                "postgresql://a/d?target_session_attrs=read-write&x=y",
                "postgresql://a/d?target_session_attrs=any&x=y",
                Role::Primary,
            ),
            (
                "host=a target_session_attrs='prefer-standby' dbname=d",
                "host=a target_session_attrs=any dbname=d",
                Role::PreferStandby,
            ),
        ] {
            assert_eq!(with_role(url), (rest.to_owned(), role));
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = server("postgresql://hab:hunter2@10.1.0.5/builder").unwrap_err().to_string();
        assert_eq!(error, "the URL of database builder cannot be used: it holds the password itself");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (url, what) in [
            ("postgresql://h", "it names no database"),
            ("host=a,b,c port=1,2 dbname=d", "it has another number of ports than of hosts"),
            ("postgresql://a/c?target_session_attrs=best", "invalid value for option `target_session_attrs`"),
            ("postgresql://a/c?sslcert=x", "unknown option `sslcert`"),
        ] {
            let error = server(url).unwrap_err().to_string();
            assert!(error.ends_with(what), "{error}");
        }
    }
}
