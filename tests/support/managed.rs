//! A server as a cloud offers it: it works, and nobody who may log in is superuser.
//!
//! What it copies, and from where:
//!
//! - Amazon RDS and Aurora (User Guide, "Understanding the rds_superuser role"): the administrator is `NOSUPERUSER INHERIT
//!   CREATEDB CREATEROLE NOREPLICATION`, a member of `rds_superuser`; the superuser `rdsadmin` and the database `rdsadmin`
//!   are nobody's to enter. `ALTER ROLE … NOSUPERUSER` alone is refused, too, and so is `ALTER DATABASE … SET` of a setting that
//!   no module knows (PostgREST issue 755).
//! - Google Cloud SQL (documentation, "About PostgreSQL users and roles"): `cloudsqlsuperuser` creates roles and databases,
//!   `pg_authid` and `pg_shadow` are closed, `cloudsqladmin` is nobody's.
//! - Azure Flexible Server (documentation, "Create users", "Possible errors when managing extensions"): `azure_pg_admin`
//!   likewise; extensions belong to the service, so nobody may comment on them.
//!
//! What the services loosen by patches of their own (event triggers, casts, extensions by the administrator) is closed here:
//! what works here works there.

use secrecy::SecretString;
use warmspare::config::address::DatabaseAddress;
use warmspare::postgres::{Server, Session, script};

use super::postgres::PostgresServer;

pub struct Managed {
    pub server: PostgresServer,
}

const MADE: &str = "\
CREATE ROLE rdsadmin SUPERUSER LOGIN PASSWORD 'theirs';
CREATE ROLE rds_superuser;
GRANT pg_monitor, pg_signal_backend TO rds_superuser WITH ADMIN OPTION;
CREATE ROLE admin LOGIN PASSWORD 'ours' CREATEDB CREATEROLE;
GRANT rds_superuser TO admin;
CREATE DATABASE rdsadmin OWNER rdsadmin;
REVOKE CONNECT ON DATABASE rdsadmin FROM PUBLIC;";

impl Managed {
    /// Of this major version.
    pub async fn of(major: u32) -> Managed {
        let server = PostgresServer::of(major);
        Managed::make(&server).await;
        Managed { server }
    }

    /// Turns a server into one.
    pub async fn make(server: &PostgresServer) {
        server.sql("postgres", MADE).await;
        let file = server.folder().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("host rdsadmin all all reject\n{rules}")).unwrap();
        server.value("postgres", "SELECT pg_reload_conf()::text").await;
    }

    /// Puts an extension of the service's own into every new database.
    pub async fn bring_everywhere(&self, extension: &str) {
        self.server.sql("postgres", "ALTER DATABASE template0 ALLOW_CONNECTIONS true").await;
        self.server.sql("template0", &format!("CREATE EXTENSION {extension} SCHEMA public")).await;
        self.server.sql("postgres", "ALTER DATABASE template0 ALLOW_CONNECTIONS false").await;
    }

    /// The administrator's way in.
    pub fn address(&self, database: &str) -> DatabaseAddress {
        let mut address = self.server.address(database);
        address.url = address.url.replace("warmspare@", "admin@");
        address
    }

    pub fn password() -> Option<SecretString> {
        Some("ours".into())
    }

    /// A session of the administrator's.
    pub async fn session(&self, database: &str) -> Session {
        Server::new(&self.address(database), Managed::password()).unwrap().connect().await.unwrap()
    }

    /// Runs SQL as the administrator, statement by statement.
    pub async fn sql(&self, database: &str, sql: &str) {
        let session = self.session(database).await;
        session.execute("", "SET search_path = public").await.unwrap();
        for statement in script::statements(sql) {
            session.execute(statement, statement).await.unwrap();
        }
        session.close().await;
    }
}
