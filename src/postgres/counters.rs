//! The server's own count of rows that were written: how much happened since a point, without reading a row.
//!
//! Sessions report what they did up to a second late, and rolled back rows are counted. So a difference of two counts says at least
//! roughly how much, and never says nothing where something was.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::session::Session;

/// Rows written in the tables of a database since its counters began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChanges {
    /// Rows inserted, changed and deleted.
    pub rows: u64,
    /// When the counters of the database, and of the server, were set back last. Both are, when the server has crashed: counts of before
    /// and after have nothing to do with each other.
    pub since: String,
}

impl RowChanges {
    /// Rows since `earlier`; nothing where the counters were set back, or a table was dropped with its own.
    pub fn since(&self, earlier: &RowChanges) -> Option<u64> {
        if self.since != earlier.since {
            return None;
        }
        self.rows.checked_sub(earlier.rows)
    }
}

/// Reads the counters of the database this session is in; nothing at a standby, which counts no writes.
///
/// # Errors
/// The server's, sorted.
pub async fn row_changes(session: &Session) -> Result<Option<RowChanges>, Error> {
    if session.is_standby() {
        return Ok(None);
    }
    let sql = "SELECT (SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_catalog.pg_stat_user_tables), \
               (SELECT coalesce(stats_reset::text, 'never') FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()) \
               || ', ' || (SELECT coalesce(stats_reset::text, 'never') FROM pg_catalog.pg_stat_bgwriter)";
    let row = session.one("asking how many rows were written", sql, &[]).await?;
    let rows = session.cell::<i64>(&row, 0)?.unsigned_abs();
    Ok(session.cell::<Option<String>>(&row, 1)?.map(|since| RowChanges { rows, since }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_have_nothing_to_do_with_each_other_say_nothing() {
        let counted = |rows: u64, since: &str| RowChanges { rows, since: since.to_owned() };
        assert_eq!(counted(12, "never").since(&counted(5, "never")), Some(7));
        assert_eq!(counted(500, "today").since(&counted(5, "never")), None, "the server crashed");
        assert_eq!(counted(4, "never").since(&counted(5, "never")), None, "a table was dropped");
    }
}
