//! Large objects: files inside a database, outside of every table.
//!
//! `pg_dump` puts them into another section in every other version, so they are carried natively, as two streams of COPY
//! text in the order of their numbers: what each is ([`describe`]) and its bytes in pieces ([`contents`]). Both go back
//! through a temporary table, which is also how a person brings them back without us.

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;

use super::allowance::Allowance;
use super::copy::{self, Rows};
use super::error::Error;
use super::session::Session;

/// The bytes of a large object in one row of [`contents`]. Part of the format: other cuts are stored anew.
pub const PIECE_BYTES: u32 = 256 << 10;
/// Text of rows that goes through the temporary table at once.
const BATCH_BYTES: usize = 8 << 20;
/// Statements sent at once.
const STATEMENTS_PER_BATCH: usize = 500;
/// Numbers, names and comments are text; the bytes are hexadecimal digits.
const ENCODING: &str = "UTF8";

/// How many there are.
///
/// # Errors
/// The server's, sorted.
pub async fn count(session: &Session) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata";
    let row = session.one("counting the large objects", sql, &[]).await?;
    Ok(session.cell::<i64>(&row, 0)?.unsigned_abs())
}

/// The numbers of those our role may not read, at most ten of them.
///
/// # Errors
/// The server's, sorted.
pub async fn unreadable(session: &Session) -> Result<Vec<String>, Error> {
    // has_largeobject_privilege is of PostgreSQL 18.
    let sql = "SELECT m.oid::text FROM pg_catalog.pg_largeobject_metadata m \
               WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
               AND current_setting('lo_compat_privileges') = 'off' AND NOT EXISTS (\
               SELECT FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) g \
               WHERE g.privilege_type = 'SELECT' AND (g.grantee = 0 OR pg_has_role(g.grantee, 'USAGE'))) \
               ORDER BY m.oid LIMIT 10";
    session.texts("checking that every large object can be read", sql).await
}

/// One row each: number, owner, privileges, comment, security labels.
///
/// # Errors
/// The server's, sorted.
pub async fn describe(session: &Session) -> Result<Rows<'_>, Error> {
    // A grant by somebody else than the owner needs the owner's grant before it, so those come first.
    let sql = "SELECT m.oid, pg_get_userbyid(m.lomowner), \
               CASE WHEN m.lomacl IS NOT NULL THEN coalesce((SELECT jsonb_agg(jsonb_build_object(\
               'to', CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee) END, 'privilege', g.privilege_type, \
               'grantable', g.is_grantable, 'by', pg_get_userbyid(g.grantor)) \
               ORDER BY g.grantor <> m.lomowner, NOT g.is_grantable, pg_get_userbyid(g.grantor), pg_get_userbyid(g.grantee), \
               g.privilege_type) FROM aclexplode(m.lomacl) g), '[]') END, \
               obj_description(m.oid, 'pg_largeobject'), \
               (SELECT jsonb_object_agg(l.provider, l.label) FROM pg_catalog.pg_seclabel l \
               WHERE l.classoid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND l.objoid = m.oid) \
               FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid";
    copy::copy_out_query(session, "reading the list of large objects", sql, ENCODING).await
}

/// Their bytes, one row for each [`PIECE_BYTES`]: number, position, bytes. An empty one has no row; holes are zeros.
///
/// # Errors
/// The server's, sorted.
pub async fn contents(session: &Session) -> Result<Rows<'_>, Error> {
    // `OFFSET 0` keeps the planner from running the calls that open, measure and close more than once an object.
    // 262144 is INV_READ.
    let sql = format!(
        "SELECT o.oid, p.start, lo_get(o.oid, p.start, {PIECE_BYTES}) FROM (\
         SELECT oid, lo_lseek64(fd, 0, 2) AS size, lo_close(fd) AS closed FROM (\
         SELECT oid, lo_open(oid, 262144) AS fd FROM (\
         SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid OFFSET 0) i OFFSET 0) f OFFSET 0) o, \
         LATERAL generate_series(0, o.size - 1, {PIECE_BYTES}) AS p(start)"
    );
    copy::copy_out_query(session, "reading the large objects", &sql, ENCODING).await
}

/// Makes the large objects that rows of [`describe`] tell of, with all that was said of them. The rows are those of
/// the temporary table that [`Filling`] filled.
const MADE: &str = "SELECT count(lo_create(loid)) FROM pg_temp.warmspare_rows";

/// The statements that give each its owner, privileges, comment and labels, by `n`.
const STATEMENTS: &str = "\
WITH r AS (SELECT loid, owner, acl, comment, labels FROM pg_temp.warmspare_rows), \
s AS (SELECT loid, 1 AS step, 0::int8 AS part, format('ALTER LARGE OBJECT %s OWNER TO %I', loid, owner) AS sql FROM r \
UNION ALL SELECT loid, 2, 0, format('REVOKE ALL ON LARGE OBJECT %s FROM PUBLIC, %I', loid, owner) FROM r WHERE acl IS NOT NULL \
UNION ALL SELECT loid, 3, g.part, CASE WHEN g.by <> owner THEN format('SET ROLE %I; ', g.by) ELSE '' END \
|| format('GRANT %s ON LARGE OBJECT %s TO ', g.privilege, loid) || coalesce(quote_ident(g.to), 'PUBLIC') \
|| CASE WHEN g.grantable THEN ' WITH GRANT OPTION' ELSE '' END \
|| CASE WHEN g.by <> owner THEN '; RESET ROLE' ELSE '' END \
FROM r, LATERAL (SELECT e ->> 'to' AS to, e ->> 'privilege' AS privilege, (e ->> 'grantable')::bool AS grantable, \
e ->> 'by' AS by, part FROM jsonb_array_elements(acl) WITH ORDINALITY AS x(e, part)) g \
UNION ALL SELECT loid, 4, 0, format('COMMENT ON LARGE OBJECT %s IS %L', loid, comment) FROM r WHERE comment IS NOT NULL \
UNION ALL SELECT loid, 5, 0, format('SECURITY LABEL FOR %I ON LARGE OBJECT %s IS %L', l.key, loid, l.value) FROM r, jsonb_each_text(labels) l) \
SELECT sql FROM s ORDER BY loid, step, part";

/// What the rows of a stream become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becoming {
    /// Large objects without a byte, from the rows of [`describe`].
    Objects,
    /// Their bytes, from the rows of [`contents`].
    Bytes,
}

impl Becoming {
    fn columns(self) -> &'static str {
        match self {
            Becoming::Objects => "loid oid, owner text, acl jsonb, comment text, labels jsonb",
            Becoming::Bytes => "loid oid, start int8, data bytea",
        }
    }
}

/// Rows on their way back into a database.
pub struct Filling<'a> {
    session: &'a Session,
    becoming: Becoming,
    waiting: BytesMut,
    allowance: Allowance,
}

/// Starts to write rows of one of the two streams.
///
/// # Errors
/// The server's, sorted.
pub async fn fill(session: &Session, becoming: Becoming) -> Result<Filling<'_>, Error> {
    let sql = format!(
        "DROP TABLE IF EXISTS pg_temp.warmspare_rows; CREATE TEMPORARY TABLE warmspare_rows ({})",
        becoming.columns()
    );
    session.execute("making room for large objects", &sql).await?;
    Ok(Filling { session, becoming, waiting: BytesMut::new(), allowance: Allowance::default() })
}

impl Filling<'_> {
    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        self.waiting.extend_from_slice(&data);
        if self.waiting.len() < BATCH_BYTES {
            return Ok(());
        }
        let Some(end) = self.waiting.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rows = self.waiting.split_to(end + 1).freeze();
        self.apply(rows).await
    }

    /// Takes what is left; back comes what our role was allowed meanwhile.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn finish(mut self) -> Result<Allowance, Error> {
        let rest = self.waiting.split().freeze();
        self.apply(rest).await?;
        self.session.execute("making room for large objects", "DROP TABLE pg_temp.warmspare_rows").await?;
        Ok(self.allowance)
    }

    /// Whole rows become large objects or bytes of such.
    async fn apply(&mut self, rows: Bytes) -> Result<(), Error> {
        let doing = "writing large objects";
        let fail = |e| Error::of(self.session.place(), doing, e);
        let into = format!("COPY pg_temp.warmspare_rows FROM STDIN (ENCODING '{ENCODING}')");
        let sink = self.session.client().copy_in::<_, Bytes>(&into).await.map_err(fail)?;
        let mut sink = Box::pin(sink);
        sink.feed(rows).await.map_err(fail)?;
        sink.as_mut().finish().await.map_err(fail)?;
        match self.becoming {
            Becoming::Objects => self.make(doing).await?,
            Becoming::Bytes => {
                let sql = "SELECT count(lo_put(loid, start, data)::text) FROM pg_temp.warmspare_rows";
                self.session.one(doing, sql, &[]).await?;
            }
        }
        self.session.execute(doing, "TRUNCATE pg_temp.warmspare_rows").await
    }

    async fn make(&mut self, doing: &str) -> Result<(), Error> {
        self.session.one(doing, MADE, &[]).await?;
        let all = self.session.texts(doing, STATEMENTS).await?;
        if !self.session.is_superuser() {
            for statement in &all {
                self.allowance.run(self.session, doing, statement).await?;
            }
            return Ok(());
        }
        for statements in all.chunks(STATEMENTS_PER_BATCH) {
            self.session.execute(doing, &statements.join(";\n")).await?;
        }
        Ok(())
    }
}
