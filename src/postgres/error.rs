//! What a PostgreSQL server answered, sorted by what a person can do about it.

use std::borrow::Borrow;
use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

use super::quote::identifier;
use super::unsupported::Unsupported;
use crate::error::{Class, Explain};

/// Where something happened: `builder at 10.1.0.5:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the database.
    pub database: String,
    /// Host and port, or the folder of the socket.
    pub host: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database {} at {}", self.database, self.host)
    }
}

/// An error of a PostgreSQL server, of the way to it, or of one of its client programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string cannot be used.
    #[error("the URL of database {name} cannot be used: {what}")]
    Address {
        /// The name of the database in the configuration.
        name: String,
        /// What is wrong with it; never quotes the URL, which may hold a password.
        what: String,
    },
    /// Nobody answers there.
    #[error("{place}: the server cannot be reached: {what}")]
    Unreachable {
        /// Where.
        place: Place,
        /// What the network said.
        what: String,
    },
    /// The server is there but starts, stops, or has no connection left.
    #[error("{place}: the server takes no connection: {what}")]
    NotReady {
        /// Where.
        place: Place,
        /// The server's words.
        what: String,
    },
    /// TLS could not be agreed on, or the certificate is not trusted.
    #[error("{place}: no trusted TLS connection: {what}")]
    Tls {
        /// Where.
        place: Place,
        /// What TLS said.
        what: String,
    },
    /// The server did not accept the role or its password.
    #[error("{place}: the server refuses role {user}: {what}")]
    Login {
        /// Where.
        place: Place,
        /// The role.
        user: String,
        /// The server's words.
        what: String,
    },
    /// There is no such database.
    #[error("{place}: there is no such database")]
    NoDatabase {
        /// Where.
        place: Place,
    },
    /// The connection broke while something was going on.
    #[error("{place}: the connection was lost while {doing}: {what}")]
    Lost {
        /// Where.
        place: Place,
        /// What was going on.
        doing: String,
        /// What the network or the server said last.
        what: String,
    },
    /// Our role may not do it.
    #[error("{place}: not permitted: {doing}: {what}")]
    Permission {
        /// Where.
        place: Place,
        /// What was tried.
        doing: String,
        /// The server's words.
        what: String,
    },
    /// Our role may not read all of the database.
    #[error("{place}: role {role} may not read {} of this database:{}", counted(objects.len()), listed(objects))]
    Access {
        /// Where.
        place: Place,
        /// Our role.
        role: String,
        /// Each of them, by kind and name.
        objects: Vec<String>,
        /// The statements by which a superuser lets it.
        statements: Vec<String>,
    },
    /// What is restored, or replaced, belongs to a role for which ours may not act.
    #[error("{place}: our role may not act for role {role}, whose objects it must make or rename: {what}")]
    NotMember {
        /// Where.
        place: Place,
        /// The other role, quoted.
        role: String,
        /// The statement by which somebody who administers it lets ours act for it.
        grant: String,
        /// The server's words.
        what: String,
    },
    /// A lock was not granted in time.
    #[error("{place}: a lock was not granted in time while {doing}: {what}")]
    LockTimeout {
        /// Where.
        place: Place,
        /// What was tried.
        doing: String,
        /// The server's words.
        what: String,
    },
    /// A standby ended what we did, because what it replays would wait for it.
    #[error("{place}: the standby's replay did not wait for us while {doing}: {what}")]
    RecoveryConflict {
        /// Where.
        place: Place,
        /// What was going on.
        doing: String,
        /// The server's words.
        what: String,
    },
    /// The exported snapshot does not exist any more: the session that held it ended.
    #[error("{place}: the exported snapshot is gone: {what}")]
    SnapshotGone {
        /// Where.
        place: Place,
        /// The server's words.
        what: String,
    },
    /// The disk (or another resource) of the server is full.
    #[error("{place}: the server ran out of a resource while {doing}: {what}")]
    Exhausted {
        /// Where.
        place: Place,
        /// What was going on.
        doing: String,
        /// The server's words.
        what: String,
    },
    /// A row does not fit into what PostgreSQL can send of it.
    #[error("{place}: a row is too large while {doing}: {what}")]
    RowTooLarge {
        /// Where.
        place: Place,
        /// What was going on; names the table.
        doing: String,
        /// The server's words.
        what: String,
    },
    /// Any other error of the server.
    #[error("{place}: {doing} failed: {what} (SQLSTATE {sqlstate})")]
    Server {
        /// Where.
        place: Place,
        /// What was tried.
        doing: String,
        /// Five letters of PostgreSQL's appendix A.
        sqlstate: String,
        /// The server's words.
        what: String,
    },
    /// The server's answer is not what the protocol or the catalogs promise.
    #[error("{place}: unexpected answer while {doing}: {what}")]
    Answer {
        /// Where.
        place: Place,
        /// What was going on.
        doing: String,
        /// What was odd.
        what: String,
    },
    /// The database has objects that this release cannot bring back.
    #[error("{place}: {} of this database cannot be captured:{}", counted(list.len()), listed(list))]
    Unsupported {
        /// Where.
        place: Place,
        /// Each of them, by kind and name.
        list: Vec<Unsupported>,
    },
    /// The server itself cannot be a source or target.
    #[error("{place}: {what}")]
    ServerKind {
        /// Where.
        place: Place,
        /// Why not.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// No client program that fits the server.
    #[error("{program} of PostgreSQL {needed} or newer is needed for {place}, but {found}")]
    Program {
        /// Which program.
        program: &'static str,
        /// The server's major version.
        needed: u32,
        /// For which database.
        place: Place,
        /// What there is instead.
        found: String,
    },
    /// A client program failed.
    #[error("{place}: {program} failed: {what}")]
    ProgramFailed {
        /// For which database.
        place: Place,
        /// Which program.
        program: String,
        /// The end of what it wrote to standard error.
        what: String,
    },
}

fn counted(count: usize) -> String {
    if count == 1 { "one object".to_owned() } else { format!("{count} objects") }
}

/// How many objects an error names, each on its line.
const LISTED_MAX: usize = 100;

fn listed(list: &[impl fmt::Display]) -> String {
    let more = list.len().saturating_sub(LISTED_MAX);
    let named = list.iter().take(LISTED_MAX).map(|object| format!("\n  {object}"));
    named.chain((more > 0).then(|| format!("\n  and {more} more"))).collect()
}

const ROW_TOO_LARGE: &str = "PostgreSQL builds a row as text in one piece of memory of at most 1 GiB, in which a bytea takes twice its \
     length, and so does pg_dump: nothing dumps such a row. Find it by octet_length() of the table's columns, and keep values of 512 MiB \
     and more as large objects or in a bucket; then capture again.";

impl Explain for Error {
    fn class(&self) -> Class {
        match self {
            Error::Address { .. } => Class::Usage,
            Error::Access { .. }
            | Error::NotMember { .. }
            | Error::RowTooLarge { .. }
            | Error::Unsupported { .. }
            | Error::ServerKind { .. }
            | Error::Program { .. } => Class::Refused,
            _ => Class::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        let text = match self {
            Error::Address { .. } => {
                "Write the URL as postgresql://ROLE@HOST:PORT/DATABASE, with the password in a file that \
                 `password = \"file:…\"` names."
            }
            Error::Unreachable { .. } => {
                "Check that PostgreSQL runs there, that host and port in the configuration are right, and that no \
                 firewall is in between; where the URL asks for a primary, wait until one is promoted."
            }
            Error::NotReady { .. } => {
                "Look into the server's log; if it is starting up or out of connections, try again in a minute."
            }
            Error::Tls { .. } => {
                "Install the authority that signed the server's certificate on this host, or name its file in the URL \
                 (sslrootcert=/path), or say sslmode=disable if the network between is trusted."
            }
            Error::Login { .. } => {
                "Check the role in the URL, the secret that `password` refers to on this host, and the server's pg_hba.conf."
            }
            Error::NoDatabase { .. } => "Check the name of the database at the end of the URL.",
            Error::Lost { .. } => {
                "See in the server's log why it closed the connection, then run the command again; nothing half-done was kept."
            }
            Error::Permission { .. } => {
                "Let warmspare connect as a superuser, or grant its role what the message names."
            }
            Error::Access { statements, .. } => {
                return Some(format!("As a superuser run in that database: {};", statements.join("; ")));
            }
            Error::NotMember { role, grant, .. } => {
                return Some(format!("As a role that administers {role} run: {grant}; and run the command again."));
            }
            Error::LockTimeout { .. } => {
                "Something holds an exclusive lock for long; find it in pg_stat_activity and pg_locks, and run the command \
                 again when it is done."
            }
            Error::RecoveryConflict { .. } => {
                "Set hot_standby_feedback = on at the standby, or raise its max_standby_streaming_delay, and run the command again."
            }
            Error::SnapshotGone { .. } => {
                "Run the command again; if it happens twice, see in the server's log who ended our session."
            }
            Error::Exhausted { .. } => {
                "Free the resource on the server (a restore needs about three times the database's size), then run the command again."
            }
            Error::RowTooLarge { .. } => ROW_TOO_LARGE,
            Error::Server { .. } | Error::Answer { .. } => {
                "The server's log says more; when what its words name is put right, run the command again."
            }
            Error::Unsupported { .. } => {
                "Nothing was captured, so that nothing is lost in silence. Change each as its line says, or remove it if it is \
                 not needed."
            }
            Error::ServerKind { next, .. } => next,
            Error::Program { needed, .. } => {
                return Some(format!(
                    "Install the client programs (postgresql-client-{needed}), or set `programs` of this database to their folder."
                ));
            }
            Error::ProgramFailed { .. } => {
                "Read the program's words above; run it by hand with the same role if they are not clear."
            }
        };
        Some(text.to_owned())
    }
}

impl Error {
    /// Sorts an error of the driver.
    pub(super) fn of(place: &Place, doing: &str, error: impl Borrow<tokio_postgres::Error>) -> Error {
        let error = error.borrow();
        let (place, doing) = (place.clone(), doing.to_owned());
        match error.as_db_error() {
            Some(answer) => Error::of_answer(place, doing, answer),
            None if error.is_closed() || is_io(error) => Error::Lost { place, doing, what: chain(error) },
            None => Error::Answer { place, doing, what: chain(error) },
        }
    }

    fn of_answer(place: Place, doing: String, answer: &DbError) -> Error {
        let what = words(answer);
        let code = answer.code();
        match code.code().get(..2) {
            _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => Error::Permission { place, doing, what },
            _ if *code == SqlState::LOCK_NOT_AVAILABLE => Error::LockTimeout { place, doing, what },
            _ if *code == SqlState::INVALID_CATALOG_NAME => Error::NoDatabase { place },
            // We only read, so nothing of ours can fail to serialise but against a standby's replay.
            _ if *code == SqlState::T_R_SERIALIZATION_FAILURE => Error::RecoveryConflict { place, doing, what },
            Some("53") => Error::Exhausted { place, doing, what },
            // 57P01..57P05: the server ends the session; 08: the connection failed.
            Some("57") if *code != SqlState::QUERY_CANCELED => Error::Lost { place, doing, what },
            Some("08") => Error::Lost { place, doing, what },
            _ => Error::Server { place, doing, sqlstate: code.code().to_owned(), what },
        }
    }

    /// The same, of a row that was being read: PostgreSQL's limit of 1 GiB (`MaxAllocSize`) has no SQLSTATE of its own where a
    /// single value meets it, and `program_limit_exceeded` where the whole row does.
    pub(super) fn of_row(self) -> Error {
        match self {
            Error::Server { place, doing, sqlstate, what }
                if sqlstate == "54000" || what.starts_with("invalid memory alloc request size") =>
            {
                Error::RowTooLarge { place, doing, what }
            }
            other => other,
        }
    }

    /// Sorts an error of the attempt to connect.
    pub(super) fn of_connect(place: &Place, user: &str, error: tokio_postgres::Error) -> Error {
        let place = place.clone();
        let Some(answer) = error.as_db_error() else {
            let what = chain(&error);
            return match error.to_string().as_str() {
                text if text.contains("TLS") => Error::Tls { place, what },
                // Also "password missing": the server asks for one and the configuration names none.
                text if text.contains("authentication") || what.contains("password missing") => {
                    Error::Login { place, user: user.to_owned(), what }
                }
                _ => Error::Unreachable { place, what },
            };
        };
        let what = words(answer);
        match answer.code() {
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                let grant =
                    format!("GRANT CONNECT ON DATABASE {} TO {}", identifier(&place.database), identifier(user));
                let objects = vec![format!("the database itself ({what})")];
                Error::Access { place, role: user.to_owned(), objects, statements: vec![grant] }
            }
            code if code.code().starts_with("28") => Error::Login { place, user: user.to_owned(), what },
            code if *code == SqlState::INVALID_CATALOG_NAME => Error::NoDatabase { place },
            code if code.code().starts_with("57") || code.code().starts_with("53") => Error::NotReady { place, what },
            _ => Error::of_answer(place, "connecting".to_owned(), answer),
        }
    }

    /// Whether it is what a session sees when somebody changes the schema under it: a lock not granted, an object that
    /// vanished or was replaced between two looks. Trying again helps.
    pub fn is_of_ddl(&self) -> bool {
        match self {
            Error::LockTimeout { .. } => true,
            // Deadlock; undefined table, column, function, object, schema.
            Error::Server { sqlstate, what, .. } => {
                ["40P01", "42P01", "42703", "42883", "42704", "3F000"].contains(&sqlstate.as_str()) || vanished(what)
            }
            Error::ProgramFailed { what, .. } => {
                // pg_dump waits for locks by a statement timeout, and asks for what its snapshot has by name.
                let gone = what.contains("LOCK TABLE") && what.contains("does not exist");
                gone || what.contains("lock timeout") || what.contains("statement timeout") || vanished(what)
            }
            _ => false,
        }
    }

    /// Whether a standby's replay ended it, itself or by ending the session that held our snapshot. Trying again helps, until
    /// the same happens again.
    pub fn is_of_replay(&self) -> bool {
        matches!(self, Error::RecoveryConflict { .. } | Error::SnapshotGone { .. })
    }

    /// The five letters, if the server gave them and no variant of their own stands for them.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }
}

/// The words for a catalog row that is gone (internal errors without a code of their own).
fn vanished(what: &str) -> bool {
    ["cache lookup failed", "could not open relation with OID"].iter().any(|words| what.contains(words))
}

/// The server's message, with its detail, hint and context, on one line.
fn words(answer: &DbError) -> String {
    let mut text = answer.message().to_owned();
    for (label, part) in [("detail", answer.detail()), ("hint", answer.hint()), ("where", answer.where_())] {
        if let Some(part) = part {
            text.push_str(&format!("; {label}: {}", part.replace('\n', " ")));
        }
    }
    if let Some(ErrorPosition::Internal { query, .. }) = answer.position() {
        text.push_str(&format!("; inside: {query}"));
    }
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}
