//! The snapshot into the fresh database: definitions, rows, sequences, definitions that come after the rows, materialized
//! views, statistics, and what belongs to the database itself.

use super::large_objects;
use super::marks::{CREATED, LOADED, LOADING, REFUSED, STATE};
use super::prepare::recreate;
use super::{DatabaseError, Target, rows, statistics};
use crate::capture::layout;
use crate::error::Error;
use crate::failpoint;
use crate::observe::Progress;
use crate::postgres::allowance::Allowance;
use crate::postgres::catalog::{self, set_sequences};
use crate::postgres::marking::Marking;
use crate::postgres::properties::{Properties, unknown_settings};
use crate::postgres::refused::Refused;
use crate::postgres::{self, Session, constraint_triggers, early, lifecycle, quote, script};
use crate::restore::RestoreError;
use crate::stream::Source;

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tables.
    pub tables: u64,
    /// Rows of all of them.
    pub rows: u64,
    /// Bytes of their COPY text.
    pub bytes: u64,
    /// It had been loaded by an earlier run; nothing was done.
    pub already: bool,
    /// Settings of the database that this server does not have, and which were not set.
    pub unknown_settings: Vec<String>,
    /// What our role was allowed, where it is no superuser.
    pub allowance: Allowance,
}

/// The characters of a failed statement that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Loads the snapshot. What a killed run left is dropped and loaded anew; a finished load is left alone.
///
/// # Errors
/// [`DatabaseError::Statement`] with the first statement that fails, [`DatabaseError::Rows`], the server's, the
/// snapshot's. The database that bears the name is never touched.
pub async fn load<S: Source>(target: &Target, source: &S, progress: &Progress) -> Result<Loaded, Error> {
    let properties = layout::properties(source).await?;
    let fresh = target.fresh();
    match state(target).await?.as_deref() {
        Some(CREATED) => {}
        Some(LOADING) => recreate(target, &properties).await?,
        Some(LOADED) => return Ok(Loaded { already: true, ..Loaded::default() }),
        _ => {
            return Err(DatabaseError::NotReady { name: fresh, what: "does not exist or is not marked as ours" }.into());
        }
    }
    set_state(target, LOADING, &[]).await?;
    let mut allowance = Allowance::default();
    let session = target.server.connect_to(&fresh).await?;
    empty_template(&session, source, &properties).await?;
    let pre_data = layout::text(source, &layout::pre_data()).await?;
    run(&session, &fresh, &script::statements(&pre_data), &mut allowance).await?;
    for statement in properties.public_schema.iter().flat_map(|schema| schema.apply()) {
        let doing = "giving the schema public its owner, privileges and comment";
        allowance.run(&session, doing, &statement).await?;
    }
    failpoint::hit("database.pre-data");
    let post_data = layout::text(source, &layout::post_data()).await?;
    let statements = script::statements(&post_data);
    let parts = early::split(&statements, &rows::tables_of_their_own(source)?);
    let mut loaded = rows::load(target, source, &properties.encoding, &parts, &allowance, progress).await?;
    allowance.extend(std::mem::take(&mut loaded.allowance));
    large_objects::load(&session, source, &mut allowance).await?;
    set_sequences(&session, &layout::sequences(source).await?).await?;
    failpoint::hit("database.sequences");
    finish(target, &session, parts.rest, &properties, &mut allowance).await?;
    session.close().await;
    loaded.unknown_settings = apply_properties(target, properties, &mut allowance).await?;
    let refused: Vec<&Refused> = allowance.refused.iter().collect();
    set_state(target, LOADED, &refused).await?;
    loaded.allowance = allowance;
    Ok(loaded)
}

/// What comes after the rows.
async fn finish(
    target: &Target,
    session: &Session,
    mut statements: Vec<&str>,
    properties: &Properties,
    allowance: &mut Allowance,
) -> Result<(), Error> {
    let fresh = &target.fresh();
    // A fresh session's settings again: the first script set its own.
    session.execute("preparing to build the indexes", "SET maintenance_work_mem = '256MB'").await?;
    // pg_restore has them behind the event triggers, where they would be seen.
    statements.retain(|each| !each.starts_with("REFRESH MATERIALIZED VIEW "));
    let (objects, event_triggers) = statements.split_at(first_event_trigger(&statements));
    run(session, fresh, objects, allowance).await?;
    failpoint::hit("database.post-data");
    allowance.refused.extend(constraint_triggers::switch(session, &properties.constraint_triggers).await?);
    failpoint::hit("database.constraint-triggers");
    for view in &properties.materialized_views {
        session.execute(&format!("refreshing {view}"), &format!("REFRESH MATERIALIZED VIEW {view}")).await?;
        failpoint::hit("database.view-refreshed");
    }
    statistics::gather(target, session).await?;
    failpoint::hit("database.analyzed");
    run(session, fresh, event_triggers, allowance).await?;
    failpoint::hit("database.event-triggers");
    Ok(())
}

/// pg_restore writes the event triggers, and what is said of them, last. They must not see what we still do: each would
/// do to the restored rows what it does to the application's.
fn first_event_trigger(statements: &[&str]) -> usize {
    statements.iter().position(|each| each.starts_with("CREATE EVENT TRIGGER ")).unwrap_or(statements.len())
}

async fn state(target: &Target) -> Result<Option<String>, Error> {
    let session = target.server.maintenance().await?;
    let marks = lifecycle::marks(&session, &target.fresh()).await?;
    session.close().await;
    Ok(marks.filter(|marks| target.is_of_this_point(marks)).and_then(|mut marks| marks.remove(STATE)))
}

/// Writes down how far the load is, and what the server refused meanwhile: a proof must know, whenever it is made.
async fn set_state(target: &Target, state: &str, refused: &[&Refused]) -> Result<(), Error> {
    let session = target.server.maintenance().await?;
    let (fresh, marking) = (target.fresh(), Marking::of(&session));
    let mut marks = vec![marking.set(&fresh, STATE, state)];
    if !refused.is_empty() {
        let json = serde_json::to_string(refused).map_err(RestoreError::Value)?;
        marks.push(marking.set(&fresh, REFUSED, &json));
    }
    lifecycle::together(&session, "marking how far the load is", &marks).await?;
    session.close().await;
    failpoint::hit("database.state");
    Ok(())
}

/// template0 has a schema `public` and the language plpgsql, which the operator may have dropped.
async fn empty_template<S: Source>(session: &Session, source: &S, properties: &Properties) -> Result<(), Error> {
    let inventory = layout::inventory(source).await?;
    if !inventory.iter().any(|line| line.kind == "schema" && line.name == "public") {
        session.execute("dropping the schema public", "DROP SCHEMA IF EXISTS public").await?;
    }
    if !properties.extensions.iter().any(|extension| extension.name == "plpgsql") {
        session.execute("dropping the language plpgsql", "DROP EXTENSION IF EXISTS plpgsql").await?;
    }
    Ok(())
}

/// Runs statements one by one and stops at the first that fails.
pub(super) async fn run(
    session: &Session,
    name: &str,
    statements: &[&str],
    allowance: &mut Allowance,
) -> Result<(), Error> {
    let tablespaces = catalog::tablespaces(session).await?;
    for statement in statements.iter().filter(|each| !script::is_of_a_newer_server(each, session.version())) {
        let statement = script::with_streaming_said(at_home(statement, &tablespaces));
        match allowance.run(session, "running the snapshot's definitions", &statement).await {
            Ok(()) => {}
            Err(error @ postgres::Error::NotMember { .. }) => return Err(error.into()),
            Err(source) => {
                let (name, statement) = (name.to_owned(), shown(&statement));
                return Err(DatabaseError::Statement { name, statement, source }.into());
            }
        }
    }
    Ok(())
}

/// The beginning of a statement, but nothing of what may hold a password.
fn shown(statement: &str) -> String {
    let secret = match statement {
        text if text.starts_with("CREATE USER MAPPING ") => " OPTIONS ",
        text if text.starts_with("CREATE SUBSCRIPTION ") => " CONNECTION ",
        _ => "\0",
    };
    let text = statement.split(secret).next().unwrap_or_default();
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// The statement, or the default tablespace instead of one that this server does not have.
fn at_home<'a>(statement: &'a str, tablespaces: &[String]) -> &'a str {
    let Some(wanted) = statement.strip_prefix("SET default_tablespace = ") else { return statement };
    let here = |name: &String| wanted == name || wanted == quote::identifier(name);
    if tablespaces.iter().any(here) { statement } else { "SET default_tablespace = ''" }
}

/// The settings this server does not have are left out; their names are returned.
async fn apply_properties(
    target: &Target,
    properties: Properties,
    allowance: &mut Allowance,
) -> Result<Vec<String>, Error> {
    let session = target.server.maintenance().await?;
    let names: Vec<String> = properties.settings.iter().map(|setting| setting.name.clone()).collect();
    let unknown = unknown_settings(&session, &names).await?;
    let properties = properties.without(&unknown);
    for statement in properties.apply(&target.fresh(), Marking::of(&session)) {
        allowance.run(&session, "giving the database its owner, privileges and settings", &statement).await?;
        failpoint::hit("database.property");
    }
    session.close().await;
    Ok(unknown)
}
