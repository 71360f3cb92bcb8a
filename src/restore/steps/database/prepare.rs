//! An empty database of the right encoding and locale, and the roles that will own what comes into it.

use std::collections::BTreeSet;

use super::marks::{CREATED, POINT, STATE, TERM};
use super::{DatabaseError, Target};
use crate::capture::database::DatabaseFacts;
use crate::capture::layout;
use crate::error::Error;
use crate::failpoint;
use crate::postgres::allowance::Allowance;
use crate::postgres::marking::Marking;
use crate::postgres::properties::Properties;
use crate::postgres::roles::{self, Role};
use crate::postgres::{self, Session, access, catalog, inventory, lifecycle};
use crate::stream::Source;

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The empty database.
    pub fresh: String,
    /// Roles created, without a login.
    pub created_roles: Vec<String>,
    /// Roles that existed and differ from the captured ones, in words; they were left as they are.
    pub differing_roles: Vec<String>,
    /// Tablespaces of the snapshot that this server lacks; what was in them goes to the default one.
    pub missing_tablespaces: Vec<String>,
    /// Memberships of the new roles that the server refused to our role, which is no superuser, and why.
    pub refused_memberships: Vec<String>,
    /// The role that ours, which is no superuser, became a member of because the database to be replaced is theirs.
    pub joined_roles: Vec<String>,
}

/// Checks that the server can take the snapshot, creates missing roles without a login, and creates the fresh database;
/// one that an earlier run left is dropped first.
///
/// # Errors
/// [`DatabaseError::Extensions`], [`DatabaseError::Older`] before anything is changed; [`DatabaseError::Occupied`] when
/// the fresh database's name is taken; the server's.
pub async fn prepare<S: Source>(target: &Target, source: &S, captured: &DatabaseFacts) -> Result<Prepared, Error> {
    let properties = layout::properties(source).await?;
    let wanted = layout::roles(source).await?;
    let session = target.server.maintenance().await?;
    can_take(target, &session, &properties, captured).await?;
    // Now, and not when hours of loading are over.
    let mut allowance = Allowance::default();
    allowance.act_for_owner(&session, &target.name).await?;
    make_room(target, &session).await?;
    let Roles { created, differing, refused } = complete_roles(&session, &wanted).await?;
    create(target, &session, &properties).await?;
    let missing_tablespaces = missing_tablespaces(&session, source).await?;
    session.close().await;
    let fresh = target.fresh();
    Ok(Prepared {
        fresh,
        created_roles: created,
        differing_roles: differing,
        missing_tablespaces,
        refused_memberships: refused,
        joined_roles: allowance.joined.into_iter().collect(),
    })
}

async fn missing_tablespaces<S: Source>(session: &Session, source: &S) -> Result<Vec<String>, Error> {
    let here = catalog::tablespaces(session).await?;
    let lines = layout::inventory(source).await?;
    let wanted = lines.into_iter().filter(|line| line.kind == inventory::TABLESPACE).map(|line| line.definition);
    let missing: BTreeSet<String> = wanted.filter(|name| !here.contains(name)).collect();
    Ok(missing.into_iter().collect())
}

async fn can_take(
    target: &Target,
    session: &Session,
    properties: &Properties,
    captured: &DatabaseFacts,
) -> Result<(), Error> {
    if session.is_standby() {
        let error = postgres::Error::ServerKind {
            place: session.place().clone(),
            what: "the server is a standby (in recovery), into which nothing can be restored".to_owned(),
            next: "Let the URL of this site point to a server of its own; promote this one only if it is not the source's standby."
                .to_owned(),
        };
        return Err(error.into());
    }
    let (found, needed) = (session.version() / 10_000, captured.server_version_num / 10_000);
    if found < needed {
        return Err(DatabaseError::Older { place: target.place(), found, captured: needed }.into());
    }
    let missing = catalog::missing_extensions(session, &properties.extensions).await?;
    if missing.is_empty() { Ok(()) } else { Err(DatabaseError::Extensions { place: target.place(), missing }.into()) }
}

/// Drops what an earlier run left under the fresh name. A kill between CREATE DATABASE and its marks leaves an empty
/// database without marks: that one is ours too. Anything else is not.
async fn make_room(target: &Target, session: &Session) -> Result<(), Error> {
    let fresh = target.fresh();
    let Some(marks) = lifecycle::marks(session, &fresh).await? else { return Ok(()) };
    if !marks.contains_key(POINT) {
        let inside = target.server.connect_to(&fresh).await?;
        let relations = lifecycle::relations(&inside).await?;
        inside.close().await;
        if relations > 0 {
            return Err(DatabaseError::Occupied { name: fresh }.into());
        }
    }
    lifecycle::drop_database(&target.server, session, &fresh).await?;
    failpoint::hit("database.fresh-dropped");
    Ok(())
}

async fn create(target: &Target, session: &Session, properties: &Properties) -> Result<(), postgres::Error> {
    let fresh = target.fresh();
    let tablespaces = catalog::tablespaces(session).await?;
    let sql = properties.create(&fresh, session.version(), &tablespaces);
    session.execute(&format!("creating database {fresh}"), &sql).await?;
    failpoint::hit("database.created");
    let marking = Marking::of(session);
    let mut marks = target.origin.at_creation(marking, &fresh);
    marks.extend([
        marking.set(&fresh, POINT, &target.point),
        marking.set(&fresh, TERM, &target.term.to_string()),
        marking.set(&fresh, STATE, CREATED),
    ]);
    lifecycle::together(session, "marking the fresh database", &marks).await?;
    failpoint::hit("database.marked");
    Ok(())
}

/// Drops the fresh database and creates it anew, for a load that was killed.
pub(super) async fn recreate(target: &Target, properties: &Properties) -> Result<(), Error> {
    let session = target.server.maintenance().await?;
    make_room(target, &session).await?;
    create(target, &session, properties).await?;
    session.close().await;
    Ok(())
}

/// What became of the roles.
struct Roles {
    created: Vec<String>,
    differing: Vec<String>,
    refused: Vec<String>,
}

/// Roles belong to the whole server, where other databases may use them: missing ones are created without a login,
/// existing ones only compared.
async fn complete_roles(session: &Session, wanted: &[Role]) -> Result<Roles, Error> {
    let names: Vec<String> = wanted.iter().map(|role| role.name.clone()).collect();
    let existing = roles::existing(session, &names).await?;
    let (present, missing): (Vec<&Role>, Vec<&Role>) = wanted.iter().partition(|role| existing.contains(&role.name));
    for role in &missing {
        session.execute(&format!("creating role {}", role.name), &role.create()).await?;
        failpoint::hit("database.role-created");
    }
    let mut joining: Vec<_> = missing.iter().flat_map(|role| role.join()).collect();
    joining.sort_by_key(roles::Joining::order);
    let mut refused = Vec::new();
    for joining in joining {
        refused.extend(joining.run(session).await?);
        failpoint::hit("database.role-joined");
    }
    let passwords = access::reads_passwords(session).await?;
    let found = roles::needed(session, &names, passwords).await?;
    let differs = |role: &&Role| role.differs_from(found.iter().find(|other| other.name == role.name)?, passwords);
    let created = missing.iter().map(|role| role.name.clone()).collect();
    Ok(Roles { created, differing: present.iter().filter_map(differs).collect(), refused })
}
