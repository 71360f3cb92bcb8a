//! What belongs to the day on which the spare becomes the live site: the roles get what they had, and the sequences jump a
//! gap. Each act may be done again and changes nothing then.

use super::Target;
use super::marks::ADVANCED;
use crate::capture::layout;
use crate::error::Error;
use crate::failpoint;
use crate::postgres::marking::{LIVE_TERM, Marking};
use crate::postgres::properties::unknown_settings;
use crate::postgres::roles::{self, Role};
use crate::postgres::sequence_gap::{self, Advance};
use crate::postgres::{self, Server, Session, access, lifecycle};
use crate::stream::Source;

/// What a promotion gave to the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// Their names.
    pub roles: Vec<String>,
    /// Settings of theirs that this server does not have, and which were not set.
    pub unknown_settings: Vec<String>,
    /// What the server refused to our role, which is no superuser, each in words.
    pub refused: Vec<String>,
}

/// Gives the roles of the snapshot their attributes, logins, passwords and settings, and the server the settings of all: what turns a spare into a live
/// site, and so is done only when this site is or becomes the live one. The role we are connected as is left alone, or a
/// password of the other site would lock us out. Running it again changes nothing.
///
/// # Errors
/// The server's, the snapshot's.
pub async fn promote_roles<S: Source>(target: &Target, source: &S) -> Result<Promoted, Error> {
    let mut roles = layout::roles(source).await?;
    let session = target.server.maintenance().await?;
    let quiet = keep_quiet(&session).await?;
    let own = session.text("asking who we are", "SELECT session_user::text").await?;
    let names: Vec<String> = roles.iter().flat_map(Role::setting_names).collect();
    let unknown_settings = unknown_settings(&session, &names).await?;
    roles.iter_mut().for_each(|role| role.forget(&unknown_settings));
    let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
    let mut promoted = Promoted { unknown_settings, ..Promoted::default() };
    let there = match session.is_superuser() {
        true => Vec::new(),
        false => roles::needed(&session, &names, access::reads_passwords(&session).await?).await?,
    };
    for role in roles.iter().filter(|role| role.name != own) {
        match there.iter().find(|there| there.name == role.name) {
            None => give_all(&session, role).await?,
            Some(there) => promoted.refused.extend(give_what_differs(&session, role, there, quiet).await?),
        }
    }
    for statement in layout::server_wide(source).await?.apply() {
        match session.execute("applying what belongs to the whole server", &statement).await {
            Err(postgres::Error::Permission { what, .. }) if !session.is_superuser() => {
                promoted.refused.push(format!("{statement} ({what})"));
            }
            done => done?,
        }
        failpoint::hit("database.server-setting");
    }
    session.close().await;
    promoted.roles = names;
    Ok(promoted)
}

/// Keeps what this session says out of the server's log: it holds hashes of passwords. Where only a superuser may ask for that,
/// whether the server's log is quiet by itself.
async fn keep_quiet(session: &Session) -> Result<bool, postgres::Error> {
    let doing = "keeping passwords out of the server's log";
    let quiet = "SELECT pg_catalog.set_config('log_statement', 'none', false), \
                 pg_catalog.set_config('log_min_error_statement', 'panic', false), \
                 pg_catalog.set_config('log_min_duration_statement', '-1', false)";
    match session.execute(doing, quiet).await {
        Ok(()) => return Ok(true),
        Err(postgres::Error::Permission { .. }) if !session.is_superuser() => {}
        Err(error) => return Err(error),
    }
    let silent = "SELECT (current_setting('log_statement') = 'none' AND current_setting('log_min_duration_statement') = '-1' \
                  AND current_setting('log_min_duration_sample') = '-1')::text";
    Ok(session.text(doing, silent).await? == "true")
}

async fn give_all(session: &Session, role: &Role) -> Result<(), postgres::Error> {
    for statement in role.promote() {
        session.execute(&format!("giving role {} its attributes", role.name), &statement).await?;
        failpoint::hit("database.role-promoted");
    }
    Ok(())
}

/// Only what differs: to say `NOSUPERUSER` of a role that is none is refused, too.
async fn give_what_differs(
    session: &Session,
    role: &Role,
    there: &Role,
    quiet: bool,
) -> Result<Vec<String>, postgres::Error> {
    let doing = format!("giving role {} its attributes", role.name);
    let mut refused = Vec::new();
    let mut statements = role.promote_from(there);
    // A password is said only after something harmless was let in: the statement that fails is what a server logs.
    match role.password() {
        Some(_) if !quiet => refused.push(format!(
            "role {}: its password was not given, because this server would write it into its log",
            role.name
        )),
        password => statements.extend(password),
    }
    for (number, statement) in statements.iter().enumerate() {
        match session.execute(&doing, statement).await {
            Err(postgres::Error::Permission { what, .. }) => {
                let shown = statement.split(" PASSWORD ").next().unwrap_or_default();
                refused.push(format!("role {}: {what} ({shown})", role.name));
                if number == 0 {
                    break;
                }
            }
            done => done?,
        }
        failpoint::hit("database.role-promoted");
    }
    Ok(refused)
}

/// Whether the database that bears the application's name was promoted since it was restored.
///
/// # Errors
/// The server's.
pub async fn is_promoted(server: &Server) -> Result<bool, postgres::Error> {
    let session = server.maintenance().await?;
    let marks = lifecycle::marks(&session, server.database()).await?;
    session.close().await;
    Ok(marks.is_some_and(|marks| marks.contains_key(ADVANCED)))
}

/// Notes in the database that bears the application's name that this site goes live with it in `term`.
///
/// # Errors
/// The server's.
pub async fn note_live(server: &Server, term: u64) -> Result<(), postgres::Error> {
    let session = server.maintenance().await?;
    let mark = Marking::of(&session).set(server.database(), LIVE_TERM, &term.to_string());
    session.execute("noting the term in the database", &mark).await?;
    session.close().await;
    failpoint::hit("database.live-term");
    Ok(())
}

/// How the sequences of the database that bears the name are to be advanced; `None` if they were since it was restored.
///
/// # Errors
/// The server's.
pub async fn plan_advances(target: &Target, gap: u64) -> Result<Option<Vec<Advance>>, Error> {
    let session = target.server.maintenance().await?;
    let marks = lifecycle::marks(&session, &target.name).await?;
    session.close().await;
    if marks.is_some_and(|marks| marks.contains_key(ADVANCED)) {
        return Ok(None);
    }
    let inside = target.server.connect_to(&target.name).await?;
    let plan = sequence_gap::plan(&inside, gap).await?;
    inside.close().await;
    Ok(Some(plan))
}

/// Advances them as planned, and remembers it: those that were advanced before a kill are left as they are.
///
/// # Errors
/// The server's.
pub async fn advance_sequences(target: &Target, plan: &[Advance]) -> Result<(), Error> {
    let inside = target.server.connect_to(&target.name).await?;
    for advance in plan.iter().filter(|advance| advance.from != advance.to) {
        sequence_gap::apply(&inside, advance).await?;
        failpoint::hit("database.sequence-advanced");
    }
    inside.close().await;
    let session = target.server.maintenance().await?;
    let mark = Marking::of(&session).set(&target.name, ADVANCED, "yes");
    session.execute("remembering that the sequences were advanced", &mark).await?;
    session.close().await;
    failpoint::hit("database.advanced");
    Ok(())
}
