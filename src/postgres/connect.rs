//! From an address in the configuration to a session.
//!
//! Understood are `postgresql://…` URLs and `key=value` strings with one host (TCP or the folder of a Unix socket) and
//! `sslmode` `disable`, `prefer`, `require`, `verify-full`. Whenever TLS is used the certificate is verified against
//! the host's authorities; there is no mode that encrypts to somebody unknown.

use std::sync::Arc;
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

/// One server as one role sees it: makes sessions to its databases.
#[derive(Clone)]
pub struct Server {
    config: Config,
    password: Option<SecretString>,
    tls: MakeRustlsConnect,
    database: String,
    host: String,
    is_local: bool,
    read_only: bool,
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
        let mut config: Config =
            without_verify_modes(&address.url).parse().map_err(|error: tokio_postgres::Error| {
                // The driver's cause names the key it stumbled over, never a value.
                let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                wrong(&cause)
            })?;
        if config.get_password().is_some() {
            return Err(wrong("it holds the password itself"));
        }
        let database = config.get_dbname().map(str::to_owned).ok_or_else(|| wrong("it names no database"))?;
        let [host] = config.get_hosts() else { return Err(wrong("it must name exactly one host")) };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let (host, local) = match host {
            Host::Tcp(name) => (format!("{name}:{port}"), is_loopback(name)),
            Host::Unix(folder) => (format!("{}:{port}", folder.display()), true),
        };
        if local && config.get_ssl_mode() == SslMode::Prefer {
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
        if let Some(password) = &password {
            config.password(password.expose_secret());
        }
        let place = Place { database: database.clone(), host: host.clone() };
        let tls = MakeRustlsConnect::new(verifying(&place)?);
        Ok(Server { config, password, tls, database, host, is_local: local, read_only: false })
    }

    /// The same server, in sessions that can change nothing: the server itself refuses whatever would write.
    pub fn read_only(self) -> Server {
        Server { read_only: true, ..self }
    }

    /// Whether the address leads to this host: the folder of a socket, or loopback. A tunnel looks like it, too.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Host and port, or the folder of the socket and the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The role the address names, if it names one.
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// The database the address names.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where a database of this server is, for messages.
    pub fn place(&self, database: &str) -> Place {
        Place { database: database.to_owned(), host: self.host.clone() }
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
        let place = self.place(database);
        let mut config = self.config.clone();
        config.dbname(database);
        let user = config.get_user().unwrap_or("(the operating system's)").to_owned();
        let (client, connection) =
            config.connect(self.tls.clone()).await.map_err(|error| Error::of_connect(&place, &user, error))?;
        // What goes wrong on the connection is reported by whatever waits for an answer.
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        let session = Session::pinned(client, connection, place).await?;
        if self.read_only {
            session.execute("making the session read-only", "SET default_transaction_read_only = on").await?;
        }
        Ok(session)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => String::new(),
        };
        Endpoint {
            host,
            port: self.config.get_ports().first().copied().unwrap_or(5432),
            user: self.config.get_user().map(str::to_owned),
            password: self.password.clone(),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} at {})", self.database, self.host)
    }
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
            ("postgresql://a,b/c", "it must name exactly one host"),
            ("postgresql://a/c?sslcert=x", "unknown option `sslcert`"),
        ] {
            let error = server(url).unwrap_err().to_string();
            assert!(error.ends_with(what), "{error}");
        }
    }
}
