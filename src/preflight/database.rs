//! The databases of this site: what a capture would refuse, or what a restore would lack.
//!
//! Each question is asked by itself, so that one that cannot be answered hides no other. What a capture refuses is asked by
//! the capture's own functions.

use std::path::PathBuf;

use secrecy::SecretString;

use super::finding::Findings;
use super::limit::{ANSWER_MAX, within};
use super::{space, vault};
use crate::capture::database::DatabaseFacts;
use crate::clock::Clock;
use crate::config::Here;
use crate::config::address::DatabaseAddress;
use crate::error::Error;
use crate::postgres::condition::{self, Rights};
use crate::postgres::programs::Programs;
use crate::postgres::{self, Server, Session, access, catalog, identity, unsupported};

/// Sessions of a capture or restore beside its workers: the leader, the watcher, pg_dump, one that reads views and large objects,
/// and one that looks again.
const SESSIONS_BESIDE_WORKERS: u64 = 5;

const ABOUT: &str = "database";

/// What is looked at, and where what is found goes.
pub(super) struct Look<'a> {
    pub here: &'a Here,
    pub clock: &'a dyn Clock,
    pub address: &'a DatabaseAddress,
    /// What the newest point says of the database; for a spare.
    pub captured: Option<DatabaseFacts>,
    pub findings: &'a mut Findings,
}

/// What other looks need to know.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The folder of the server's data, if it is on this host.
    pub data: Option<PathBuf>,
}

impl Look<'_> {
    /// Connects, and looks at everything.
    pub async fn run(&mut self, password: Option<SecretString>) -> Found {
        let name = format!("database.{}", self.address.name);
        let server = Server::new(self.address, password);
        let Some(server) = self.findings.value(ABOUT, &name, server) else { return Found::default() };
        let object = server.place(server.database()).to_string();
        let connecting =
            async { if self.here.is_live() { server.connect().await } else { server.maintenance().await } };
        let session = within(ANSWER_MAX, &object, connecting).await;
        let Some(session) = self.findings.value(ABOUT, &object, session) else { return Found::default() };
        self.apart_from_the_other(&server, &object);
        let found = self.ask(&server, &session, &object).await;
        session.close().await;
        found
    }

    /// What a question comes to; an error is told.
    async fn answer<T>(
        &mut self,
        about: &'static str,
        object: &str,
        question: impl Future<Output = Result<T, postgres::Error>>,
    ) -> Option<T> {
        let answer = within(ANSWER_MAX, object, question).await;
        self.findings.value(about, object, answer)
    }

    async fn ask(&mut self, server: &Server, session: &Session, object: &str) -> Found {
        if let Some(rights) = self.answer("rights", object, condition::rights(session)).await {
            let version = session.version();
            let found = format!("PostgreSQL {}.{}, role {}", version / 10_000, version % 10_000, rights.role);
            self.findings.ok(ABOUT, object, found);
            self.rights(&rights, object);
        }
        if self.here.is_live() {
            self.capturable(session, object).await;
        } else {
            self.loadable(session, object).await;
        }
        self.application_roles(session, object).await;
        self.programs(session, object).await;
        self.connections(server, session, object).await;
        if let Some(theirs) = self.answer("clock", object, condition::clock(session)).await {
            vault::clocks(self.findings, object, theirs, self.clock.now());
        }
        let data = match server.of(session).is_local() {
            true => self.answer("space", object, condition::data_folder(session)).await.flatten(),
            false => None,
        };
        let data = data.filter(|folder| folder.exists());
        if !self.here.is_live() {
            self.room(server, session, data.as_deref(), object).await;
        }
        Found { data }
    }

    fn rights(&mut self, rights: &Rights, object: &str) {
        if self.address.application_roles.contains(&rights.role) {
            let found = format!("role {} is warmspare's and one of application_roles, too", rights.role);
            let next = "Give warmspare a role of its own: to stop the application is to close its roles.";
            self.findings.warning("roles", object, found, next);
        }
        if rights.superuser {
            return;
        }
        if self.here.is_live() {
            if !rights.reads_password_hashes {
                let role = &rights.role;
                let found = format!("role {role} may not read pg_authid: passwords of roles are not captured");
                let role = postgres::quote::identifier(role);
                let next = format!(
                    "As a superuser run: GRANT pg_read_all_data TO {role}; at a managed server, where nobody may, set new passwords \
                     after a restore."
                );
                self.findings.warning("rights", object, found, next);
            }
            return;
        }
        let role = &rights.role;
        let lacks = [(rights.creates_databases, "CREATEDB"), (rights.creates_roles, "CREATEROLE")];
        let lacks: Vec<&str> = lacks.iter().filter(|(has, _)| !has).map(|(_, word)| *word).collect();
        if lacks.is_empty() {
            let found = format!("role {role} is no superuser: what the server keeps for that one does not come back");
            let next = "Let warmspare connect as a superuser; at a managed server, where there is none, nothing: further lines name what \
                        will be missing.";
            self.findings.warning("rights", object, found, next);
        } else {
            let next = format!("Let warmspare connect as a superuser, or: ALTER ROLE {role} {}", lacks.join(" "));
            self.findings.failure("rights", object, format!("role {role} lacks {}", lacks.join(" and ")), next);
        }
    }

    /// What a capture refuses.
    async fn capturable(&mut self, session: &Session, object: &str) {
        let mut all = true;
        all &= self.answer("server", object, unsupported::refuse_server(session)).await.is_some();
        all &= self.answer("rights", object, access::refuse_unreadable(session)).await.is_some();
        all &= self.answer("objects", object, unsupported::refuse_objects(session)).await.is_some();
        if all {
            self.findings.ok("objects", object, "every table can be read, and nothing in it is refused");
        }
    }

    /// What a restore needs of the server.
    async fn loadable(&mut self, session: &Session, object: &str) {
        let Some(captured) = self.captured.clone() else { return };
        let (found, needed) = (session.version() / 10_000, captured.server_version_num / 10_000);
        if found < needed {
            let found = format!("PostgreSQL {found}, but the newest point is of PostgreSQL {needed}, which is newer");
            let next = format!("Upgrade this server to PostgreSQL {needed} or newer.");
            self.findings.failure("server", object, found, next);
        }
        let wanted = &captured.extensions;
        if let Some(missing) = self.answer("extensions", object, catalog::missing_extensions(session, wanted)).await {
            if missing.is_empty() {
                let found = format!("has the {} extensions of the newest point", wanted.len());
                self.findings.ok("extensions", object, found);
            } else {
                let found = format!("lacks {} of the newest point", missing.join(", "));
                let next = "Install the packages that provide them on the host of this server.";
                self.findings.failure("extensions", object, found, next);
            }
        }
        let Some(itself) = self.answer("server", object, identity::read(session)).await else { return };
        if itself.system_identifier == captured.system_identifier {
            // A physical copy has the same number and is as good a spare as any; nothing in a point tells the two apart.
            let found = "this is the server the newest point was captured from, or a physical copy of it";
            let next = "If it is the same server, give this site one of its own; a copy may stay.";
            self.findings.warning("apart", object, found, next);
        }
    }

    async fn application_roles(&mut self, session: &Session, object: &str) {
        let roles = &self.address.application_roles;
        if roles.is_empty() {
            return;
        }
        let Some(missing) = self.answer("roles", object, condition::missing_roles(session, roles)).await else {
            return;
        };
        let names = missing.join(", ");
        if missing.is_empty() {
            self.findings.ok("roles", object, format!("has {}", roles.join(", ")));
        } else if self.here.is_live() {
            let next = "Correct application_roles in the configuration, or make the roles.";
            self.findings.warning("roles", object, format!("has no role {names}, which is not captured then"), next);
        } else {
            let found = format!("has no role {names}: a restore makes it without login");
            let next = "Make it now, with its password, if the application is to start soon after a restore.";
            self.findings.warning("roles", object, found, next);
        }
    }

    /// The client programs: a capture always needs them, a proof where both servers are of one major version.
    async fn programs(&mut self, session: &Session, object: &str) {
        let captured = self.captured.as_ref().map(|facts| facts.server_version_num / 10_000);
        if !self.here.is_live() && captured.is_some_and(|major| major != session.version() / 10_000) {
            return;
        }
        let given = self.address.programs.clone();
        let find = Programs::find(given.as_deref(), session);
        let Some(programs) = self.answer("programs", object, find).await else { return };
        if self.answer("programs", object, programs.check_restore(session)).await.is_some() {
            self.findings.ok("programs", object, format!("{}, with its pg_restore", programs.version()));
        }
    }

    async fn connections(&mut self, server: &Server, session: &Session, object: &str) {
        // A restore loads into a new database, which has no limit of its own yet.
        let database = if self.here.is_live() { server.database() } else { "" };
        let asked = condition::connections(session, database);
        let Some(left) = self.answer("connections", object, asked).await else { return };
        // This session's place is free again by then.
        let free = left.free + 1;
        let needed = self.here.config.capture.workers as u64 + SESSIONS_BESIDE_WORKERS;
        let found = format!("{free} are free, {needed} are needed; the limit is {}", left.limit);
        if free < needed {
            let next = "Raise the limit, end sessions that are not needed, or lower `workers` under [capture].";
            self.findings.failure("connections", object, found, next);
        } else {
            self.findings.ok("connections", object, found);
        }
    }

    /// Room for the fresh database beside the one that stands there.
    async fn room(&mut self, server: &Server, session: &Session, data: Option<&std::path::Path>, object: &str) {
        let standing = self.answer("space", object, condition::size(session, server.database())).await.flatten();
        let captured = self.captured.as_ref().map(|facts| facts.bytes);
        let Some(need) = standing.max(captured) else { return };
        let Some(data) = data else {
            let size = crate::units::Bytes(need.saturating_mul(3));
            let found = "the free space of the server cannot be seen from here";
            let next = format!("See on the server's own host that {size} are free, three times the database.");
            return self.findings.warning("space", object, found, next);
        };
        // The server may keep the files elsewhere, behind a link; who may not look there asks one folder above.
        let base = data.join("base");
        let folder = if space::free(&base).is_ok() { &base } else { data };
        space::judge(self.findings, object, folder, need, "the size of the database").await;
    }

    /// Two sites whose databases are on one server are one site.
    fn apart_from_the_other(&mut self, server: &Server, object: &str) {
        let Some(other) = self.here.other.databases.get(&self.address.name) else { return };
        let Ok(theirs) = Server::new(other, None) else { return };
        // Loopback and sockets are another server on every host.
        if !server.is_local() && server.hosts().any(|host| theirs.hosts().any(|other| other == host)) {
            let found = format!("the database of {} is on the same server", self.here.other.name);
            let next = "Give each site a server of its own: a restore would work on the live one.";
            self.findings.failure("apart", object, found, next);
        }
    }
}

/// What the newest point says of a database.
pub(super) fn captured(header: &crate::vault::v1::SnapshotHeader) -> Result<DatabaseFacts, Error> {
    serde_json::from_value(header.facts.clone()).map_err(|e| crate::restore::RestoreError::Value(e).into())
}
