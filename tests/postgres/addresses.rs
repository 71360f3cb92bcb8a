//! Connection strings as users write them, each by which a database is captured, pg_dump included.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use secrecy::ExposeSecret;
use warmspare::error::Class;
use warmspare::postgres::Server;

use super::{options, take_with};
use crate::support::postgres::{PostgresServer, programs};
use crate::support::sites::shown;

/// An authority of our own, and the certificate it gave to a server.
struct Authority(tempfile::TempDir);

impl Authority {
    /// `names` is a list as openssl wants it: `DNS:localhost,IP:127.0.0.1`.
    fn certifying(names: &str) -> Authority {
        let authority = Authority(tempfile::tempdir().unwrap());
        std::fs::set_permissions(authority.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ours -keyout ca.key -out ca.pem");
        authority.openssl("req -newkey rsa:2048 -nodes -subj /CN=db -keyout server.key -out server.csr");
        std::fs::write(authority.file("names"), format!("subjectAltName={names}\n")).unwrap();
        authority.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres").arg(authority.file("server.key")).status();
            assert!(owned.unwrap().success());
        }
        authority
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings of a server that has the certificate.
    fn settings(&self) -> [String; 3] {
        let of = |setting: &str, name: &str| format!("{setting}={}", self.file(name).display());
        ["ssl=on".to_owned(), of("ssl_key_file", "server.key"), of("ssl_cert_file", "server.pem")]
    }
}

/// Whether the session to `server` at this address is encrypted; or what a capture says of it.
async fn by(server: &PostgresServer, url: &str) -> Result<String, String> {
    let mut address = server.address("postgres");
    address.url = url.to_owned();
    let connected = Server::new(&address, server.password()).map_err(|error| error.to_string())?;
    let session = connected.connect().await.map_err(|error| error.to_string())?;
    let sql = "SELECT concat(ssl, ' ', version) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let ssl = session.text("", sql).await.unwrap();
    session.close().await;
    take_with(server, &address, &options()).await.map_err(|error| error.to_string())?;
    Ok(ssl)
}

#[tokio::test]
async fn a_certificate_of_an_own_authority_is_verified_with_its_name_and_bound_to_the_login() {
    let ours = Authority::certifying("DNS:localhost");
    let server = PostgresServer::with(&ours.settings().each_ref().map(String::as_str));
    let (port, ca) = (server.cluster().port(), ours.file("ca.pem"));
    let url = |host: &str, rest: &str| format!("postgresql://warmspare@{host}:{port}/postgres?{rest}");
    let named = format!("sslrootcert={}", ca.display());
    for rest in
        ["sslmode=verify-full", "sslmode=verify-full&channel_binding=require", "sslmode=require", "sslmode=prefer"]
    {
        let encrypted = by(&server, &url("localhost", &format!("{rest}&{named}"))).await;
        assert_eq!(encrypted.as_deref(), Ok("t TLSv1.3"), "{rest}");
    }
    let words = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=warmspare dbname='postgres' sslmode=verify-full {}",
        named.replace("sslrootcert=", "sslrootcert = ")
    );
    assert_eq!(by(&server, &words).await.as_deref(), Ok("t TLSv1.3"));

    let refused = async |host: &str, rest: &str, expect: &str| {
        let error = by(&server, &url(host, rest)).await.unwrap_err();
        assert!(error.contains(expect), "{rest}: {error}");
    };
    refused("localhost", "sslmode=verify-full", "UnknownIssuer").await;
    refused("127.0.0.1", &format!("sslmode=verify-full&{named}"), "not valid for name").await;
    let other = Authority::certifying("DNS:localhost");
    let others = format!("sslmode=verify-full&sslrootcert={}", other.file("ca.pem").display());
    refused("localhost", &others, "no trusted TLS connection").await;
    refused("localhost", "sslmode=require&sslrootcert=/nowhere/ca.pem", "sslrootcert /nowhere/ca.pem: ").await;
    refused("localhost", "sslmode=disable&channel_binding=require", "channel binding").await;
}

#[tokio::test]
async fn a_server_that_wants_tls_at_once_gets_it() {
    let ours = Authority::certifying("DNS:localhost");
    let server = PostgresServer::of_with(17, &ours.settings().each_ref().map(String::as_str));
    let (port, ca) = (server.cluster().port(), ours.file("ca.pem").display().to_string());
    let url = format!(
        "postgresql://warmspare@localhost:{port}/postgres?sslmode=verify-full&sslnegotiation=direct&sslrootcert={ca}"
    );
    assert_eq!(by(&server, &url).await.as_deref(), Ok("t TLSv1.3"));
}

#[tokio::test]
async fn a_key_that_is_not_understood_is_refused_by_name() {
    let server = PostgresServer::start();
    let mut address = server.address("postgres");
    for (key, expect) in [
        ("sslcert=/x", "unknown option `sslcert`"),
        ("krbsrvname=x", "unknown option `krbsrvname`"),
        ("requirepeer=postgres", "unknown option `requirepeer`"),
        ("sslmode=allow", "sslmode=allow is not supported: say prefer, require or disable"),
        ("service=nobody", "there is no service nobody in "),
    ] {
        address.url = format!("{}?{key}", server.cluster().url("postgres"));
        let error = take_with(&server, &address, &options()).await.unwrap_err();
        let start = "the URL of database postgres cannot be used: ";
        assert!(error.to_string().starts_with(&format!("{start}{expect}")), "{error}");
        assert_eq!(error.class(), Class::Usage);
    }
}

/// `warmspare capture --try`, in an environment of its own.
fn tried(url: &str, home: &Path, variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
    command.args(["capture", "--try", url, "--no-restore", "--json"]).stdin(Stdio::null());
    command.env("TMPDIR", home).env("HOME", home).env_remove("PGPASSWORD").env_remove("PGPASSFILE");
    command.env("PATH", format!("{}:/usr/bin:/bin", programs(15).display()));
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

#[tokio::test]
async fn a_service_and_a_password_file_are_found_where_psql_finds_them() {
    let server = PostgresServer::start();
    server.create("app", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").await;
    let home = tempfile::tempdir().unwrap();
    let (port, password) = (server.cluster().port(), server.cluster().password().expose_secret().to_owned());
    let write = |name: &str, mode: u32, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let passwords = write("passwords", 0o600, &format!("127.0.0.1:{port}:app:warmspare:{password}\n"));
    let passfile = passwords.display();
    let service = format!("[live]\nhost=127.0.0.1\nport={port}\nuser=warmspare\ndbname=wrong\npassfile={passfile}\n");
    let own = write(".pg_service.conf", 0o644, &service);
    let rows = |output: &Output| {
        assert_eq!(output.status.code(), Some(0), "{}", shown(output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["captured"], "2 rows in 1 tables");
    };
    rows(&tried("service=live dbname=app", home.path(), &[]));
    let elsewhere = home.path().join("services");
    std::fs::rename(&own, &elsewhere).unwrap();
    rows(&tried("postgresql:///app?service=live", home.path(), &[("PGSERVICEFILE", &elsewhere)]));
    let folder = home.path().join("etc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(&elsewhere, folder.join("pg_service.conf")).unwrap();
    rows(&tried("service=live dbname=app", home.path(), &[("PGSYSCONFDIR", &folder)]));
    rows(&tried(&format!("postgresql://warmspare@127.0.0.1:{port}/app?passfile={passfile}"), home.path(), &[]));

    let output = tried("service=live dbname=other", home.path(), &[("PGSYSCONFDIR", &folder)]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(words.contains(&format!("has no line for 127.0.0.1:{port}:other:warmspare")), "{words}");
    write("passwords", 0o644, "");
    let output = tried("service=live dbname=app", home.path(), &[("PGSYSCONFDIR", &folder)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("may be read by others"), "{}", shown(&output));
}

#[tokio::test]
async fn a_socket_is_written_in_either_way() {
    let server = PostgresServer::start();
    let (port, folder) = (server.cluster().port(), server.folder().join("socket"));
    let escaped = folder.display().to_string().replace('/', "%2F");
    for url in [
        format!("postgresql://warmspare@{escaped}:{port}/postgres"),
        format!("postgresql:///postgres?host={}&port={port}&user=warmspare", folder.display()),
        format!("host='{}' port={port} user=warmspare dbname=postgres", folder.display()),
    ] {
        assert_eq!(by(&server, &url).await.as_deref(), Ok("f "), "{url}");
    }
}
