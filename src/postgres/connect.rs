//! From an address in the configuration to a session.
//!
//! Understood are the connection strings users of PostgreSQL write, with one or more hosts (TCP or the
//! folder of a Unix socket) and `sslmode` `disable`, `prefer`, `require`, `verify-full`. Whenever TLS is used the certificate
//! and the name in it are verified, against the authorities of the host or those that `sslrootcert` names; there is no mode
//! that encrypts to somebody unknown.
//!
//! Several hosts are one cluster: they are tried in their order, and the first that is what `target_session_attrs` asks for
//! is taken. `read-write` and `primary` are the same here, and so are `read-only` and `standby`: what counts is whether the
//! server is in recovery, not `default_transaction_read_only`, which we set ourselves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{Conninfo, Role};
use super::error::{Error, Place};
use super::session::Session;
use crate::config::address::DatabaseAddress;
use crate::config::password_file::PasswordLine;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What TCP sent and nobody acknowledged for this long ends the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where a server's socket is when the address names no host: as Debian builds libpq, and as PostgreSQL itself does.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// What every session of ours is called in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "warmspare";

/// One server, or the servers of one cluster, as one role sees them: makes sessions to their databases.
#[derive(Clone)]
pub struct Server {
    hosts: Vec<Way>,
    role: Role,
    authorities: Option<PathBuf>,
    tls: MakeRustlsConnect,
    database: String,
    read_only: bool,
}

/// The way to one host.
#[derive(Clone)]
struct Way {
    config: Config,
    password: Option<SecretString>,
    /// Host and port, or the folder of the socket.
    label: String,
    /// Whether it leads to this host.
    is_local: bool,
}

/// Where and how a client program connects to the same server.
pub(super) struct Endpoint {
    pub host: String,
    pub port: u16,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// The address, where the name of the host is not to be looked up.
    pub address: Option<String>,
    /// The file with the authorities to trust, where these are not the host's.
    pub authorities: Option<PathBuf>,
    /// `channel_binding`, as libpq calls it.
    pub channel_binding: &'static str,
    /// `sslnegotiation`, as libpq calls it.
    pub negotiation: &'static str,
}

impl Server {
    /// Reads the address; `password` is what its reference yielded on this host.
    ///
    /// # Errors
    /// [`Error::Address`] when the URL cannot be used, [`Error::Tls`] when this host's certificates cannot be read.
    pub fn new(address: &DatabaseAddress, password: Option<SecretString>) -> Result<Server, Error> {
        let wrong = |what: &str| Error::Address { name: address.name.clone(), what: what.to_owned() };
        let info = Conninfo::read(&address.url).map_err(|what| wrong(&what))?;
        let config: Config = info.driver.parse().map_err(|error: tokio_postgres::Error| {
            // The driver's cause names the key it stumbled over, never a value.
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            wrong(&cause)
        })?;
        let database = config.get_dbname().map(str::to_owned).ok_or_else(|| wrong("it names no database"))?;
        let hosts = hosts(&config);
        let ports = config.get_ports().to_vec();
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(wrong("it has another number of ports than of hosts"));
        }
        let port = |number: usize| ports.get(number).or(ports.first()).copied().unwrap_or(5432);
        let ways = hosts.iter().enumerate().map(|(number, host)| way(&config, number, host, port(number)));
        let mut hosts: Vec<Way> = ways.collect();
        let authorities = info.authorities;
        for way in &mut hosts {
            way.password = password.clone();
            if let (Some(file), None) = (&info.password_file, &password) {
                way.password = Some(of_file(file, way, &database).map_err(|what| wrong(&what))?);
            }
            way.prepare(authorities.is_some());
        }
        let place = Place { database: database.clone(), host: labels(&hosts) };
        let tls = MakeRustlsConnect::new(verifying(&place, authorities.as_deref())?);
        Ok(Server { hosts, role: info.role, authorities, tls, database, read_only: false })
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
            password: way.password.clone(),
            address: way.config.get_hostaddrs().first().map(ToString::to_string),
            authorities: self.authorities.clone(),
            channel_binding: match way.config.get_channel_binding() {
                ChannelBinding::Disable => "disable",
                ChannelBinding::Require => "require",
                _ => "prefer",
            },
            negotiation: if way.config.get_ssl_negotiation() == SslNegotiation::Direct { "direct" } else { "postgres" },
        })
    }
}

/// The hosts, and without any what libpq takes: the address to be used, or this host's socket.
fn hosts(config: &Config) -> Vec<Host> {
    if !config.get_hosts().is_empty() {
        return config.get_hosts().to_vec();
    }
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().map(|address| Host::Tcp(address.to_string())).collect();
    }
    let there = SOCKETS.iter().find(|folder| Path::new(folder).is_dir());
    there.iter().map(|folder| Host::Unix(PathBuf::from(folder))).collect()
}

/// The password in the file that the address names. libpq would do without one if no line fits; whoever names a file
/// counts on it.
fn of_file(file: &Path, way: &Way, database: &str) -> Result<SecretString, String> {
    let user = way.config.get_user().map(str::to_owned).or_else(|| std::env::var("USER").ok()).unwrap_or_default();
    let (host, port) = way.label.rsplit_once(':').unwrap_or((&way.label, ""));
    let (host, port, database) = (host.to_owned(), port.to_owned(), database.to_owned());
    let line = PasswordLine { file: file.to_owned(), host, port, database, user };
    match line.find() {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(line.missing().to_string()),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(format!("{error}{cause}"))
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
    Way { config: alone, password: None, label, is_local }
}

impl Way {
    /// Gives it what every connection of ours has, whatever the address says.
    fn prepare(&mut self, has_authorities: bool) {
        let config = &mut self.config;
        if self.is_local && config.get_ssl_mode() == SslMode::Prefer && !has_authorities {
            // Nothing to gain on the way to ourselves, and Debian's own certificate would be refused.
            config.ssl_mode(SslMode::Disable);
        }
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
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
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

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS that verifies against the authorities in the file, or else those this host trusts.
fn verifying(place: &Place, authorities: Option<&Path>) -> Result<rustls::ClientConfig, Error> {
    let fail = |what: String| Error::Tls { place: place.clone(), what };
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(file) => {
            let unusable = |error: &dyn std::fmt::Display| fail(format!("sslrootcert {}: {error}", file.display()));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
                roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
            }
        }
        // A host without any authority is fine as long as no TLS is asked for: then the handshake names the unknown issuer.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Without it a server of 17 refuses TLS that begins at once (`sslnegotiation=direct`).
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
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
            sequence_gap: 0,
            programs: None,
            rate: None,
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
