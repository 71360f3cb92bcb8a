//! Checks of constraints that were switched off (`ALTER TABLE … DISABLE TRIGGER ALL`) or made to run on a replica.
//!
//! `pg_dump` does not carry it: a restored constraint checks again. The triggers behind a constraint bear names of their
//! own in every database, so they are told apart by what they do.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::quote::{identifier, literal};
use super::refused::Refused;
use super::session::Session;

/// One such trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstraintTrigger {
    /// The table it is on, quoted where needed.
    pub table: String,
    /// The constraint it belongs to; of a foreign key to a partitioned table the whole one.
    pub constraint: String,
    /// The table that constraint is on, quoted where needed.
    pub of: String,
    /// The function it calls.
    pub function: String,
    /// When it is called: `pg_trigger.tgtype`.
    pub kind: i16,
    /// `D` for never, `R` on a replica, `A` always.
    pub enabled: String,
}

/// The constraint that `k` is part of, as `root`: a foreign key to a partitioned table has one more for each partition, whose name
/// is chosen by the server, another one in every major version.
pub(super) const ROOT: &str = "LATERAL (WITH RECURSIVE up AS (SELECT k.conname, k.conrelid, k.conparentid \
     UNION ALL SELECT above.conname, above.conrelid, above.conparentid FROM up JOIN pg_catalog.pg_constraint above \
     ON above.oid = up.conparentid AND above.conrelid = up.conrelid) SELECT up.conname, up.conrelid FROM up \
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint above WHERE above.oid = up.conparentid AND above.conrelid = up.conrelid)) root";

fn each() -> String {
    format!(
        "pg_catalog.pg_trigger g JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint, {ROOT} WHERE g.tgisinternal"
    )
}

/// Those that are not as usual.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session) -> Result<Vec<ConstraintTrigger>, Error> {
    let sql = format!(
        "SELECT g.tgrelid::pg_catalog.regclass::text, root.conname::text, root.conrelid::pg_catalog.regclass::text, \
         g.tgfoid::pg_catalog.regproc::text, g.tgtype, g.tgenabled::text FROM {} AND g.tgenabled <> 'O' ORDER BY 1, 2, 3, 4, 5",
        each()
    );
    let mut found = Vec::new();
    for row in session.rows("looking for checks that are switched off", &sql, &[]).await? {
        found.push(ConstraintTrigger {
            table: session.cell(&row, 0)?,
            constraint: session.cell(&row, 1)?,
            of: session.cell(&row, 2)?,
            function: session.cell(&row, 3)?,
            kind: session.cell(&row, 4)?,
            enabled: session.cell(&row, 5)?,
        });
    }
    Ok(found)
}

/// Switches them as they were, which only a superuser may: what is refused to any other role comes back.
///
/// # Errors
/// The server's, sorted.
pub async fn switch(session: &Session, triggers: &[ConstraintTrigger]) -> Result<Vec<Refused>, Error> {
    let doing = "switching checks of constraints off as they were";
    let sql = format!(
        "SELECT g.tgname::text FROM {} AND g.tgrelid = $1::text::pg_catalog.regclass AND root.conname = $2 \
         AND root.conrelid = $3::text::pg_catalog.regclass AND g.tgfoid = $4::text::pg_catalog.regproc AND g.tgtype = $5",
        each()
    );
    let mut refused = Vec::new();
    for each in triggers {
        let (table, constraint, of, function) = (&each.table, &each.constraint, &each.of, &each.function);
        let rows = session.rows(doing, &sql, &[table, constraint, of, function, &each.kind]).await?;
        for row in rows {
            let name = identifier(&session.cell::<String>(&row, 0)?);
            let word = match each.enabled.as_str() {
                "D" => "DISABLE",
                "R" => "ENABLE REPLICA",
                _ => "ENABLE ALWAYS",
            };
            let sql = format!("ALTER TABLE ONLY {table} {word} TRIGGER {name}");
            match session.execute(doing, &sql).await {
                Ok(()) => {}
                Err(Error::Permission { what: why, .. }) if !session.is_superuser() => {
                    // The name it has in the inventory.
                    let quoted = format!("SELECT quote_ident({})", literal(constraint));
                    let name = format!("of {} on {table}", session.text(doing, &quoted).await?);
                    refused.push(Refused { kind: "constraint trigger".to_owned(), name, why });
                }
                Err(error) => return Err(error),
            }
        }
    }
    refused.dedup_by(|one, other| one.name == other.name);
    Ok(refused)
}
