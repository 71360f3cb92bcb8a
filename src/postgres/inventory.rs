//! The inventory: everything a database consists of but its rows, one sorted line each, so that two databases are
//! compared line by line and every difference has a name.
//!
//! A line is `kind<TAB>name<TAB>definition`. Nothing in it depends on object ids, on the database's name or on the order in
//! which things were created. What a dump rightly does not carry (an invalid index, a privilege list that says
//! no more than the default) is brought to the form it has after a restore.

mod foreign;
mod others;

use super::catalog::{SCRATCH, USER_SCHEMA};
use super::constraint_triggers::ROOT;
use super::error::Error;
use super::marking::COMMENT;
use super::session::Session;

/// The kind of the lines that say in which tablespace something is: a server may lack it.
pub const TABLESPACE: &str = "tablespace";

/// One object as the inventory tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// `table`, `index`, `column privileges`, …
    pub kind: String,
    /// Its qualified name.
    pub name: String,
    /// Everything that is compared.
    pub definition: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\t{}\t{}", escaped(&self.kind), escaped(&self.name), escaped(&self.definition))
    }
}

impl Line {
    /// Reads a line as it was written.
    pub fn parse(line: &str) -> Option<Line> {
        let mut parts = line.splitn(3, '\t');
        let mut next = || parts.next().map(unescaped);
        Some(Line { kind: next()?, name: next()?, definition: next()? })
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (char, false) => out.push(char),
        }
    }
    out
}

/// The inventory of the database this session is in, sorted.
///
/// # Errors
/// The server's, sorted.
pub async fn read(session: &Session) -> Result<Vec<Line>, Error> {
    lines(session, queries(session.version(), session.is_superuser())).await
}

/// The types, and what composite ones are made of, sorted: those lines of the inventory by which the server turns values into
/// text. It takes no lock to tell them.
///
/// # Errors
/// The server's, sorted.
pub async fn read_types(session: &Session) -> Result<Vec<Line>, Error> {
    lines(session, vec![("types", types_themselves()), ("parts of composite types", columns("'c'"))]).await
}

async fn lines(session: &Session, queries: Vec<(&'static str, String)>) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    for (about, sql) in queries {
        for row in session.rows(&format!("listing the {about}"), &sql, &[]).await? {
            lines.push(Line {
                kind: session.cell(&row, 0)?,
                name: session.cell(&row, 1)?,
                definition: session.cell::<Option<String>>(&row, 2)?.unwrap_or_default(),
            });
        }
    }
    lines.sort();
    Ok(lines)
}

/// The privileges of an object: the list sorted, and a list that only says the default said as such.
fn acl(kind: &str, list: &str, owner: &str) -> String {
    let sorted = |list: &str| format!("ARRAY(SELECT x::text FROM unnest({list}) x ORDER BY 1)");
    let (given, default) = (sorted(list), sorted(&format!("acldefault('{kind}', {owner})")));
    format!("CASE WHEN {list} IS NULL OR {given} = {default} THEN 'default' ELSE array_to_string({given}, ' ') END")
}

/// Not a member of an extension.
fn no_member(catalog: &str, oid: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass \
         AND e.objid = {oid} AND e.deptype = 'e')"
    )
}

/// The name of a relation, quoted where needed. `c` and `n` are its aliases.
const RELATION: &str = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)";

/// Options a person set. PostgreSQL 15.20 keeps marks of its own among them (`pg_attver`, a log position), another in
/// every database.
const OPERATORS_OWN: &str = "o NOT LIKE 'pg\\_%'";

fn own_relation() -> String {
    format!("{USER_SCHEMA} AND c.relpersistence <> 't' AND {}", no_member("pg_class", "c.oid"))
}

fn queries(version: u32, superuser: bool) -> Vec<(&'static str, String)> {
    let mut all = relations();
    all.extend(parts_of_relations());
    all.extend(code());
    all.extend(types());
    all.extend(foreign::queries());
    all.extend(others::queries(version, superuser));
    all.extend(rest(version));
    all
}

const FROM_RELATION: &str = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

fn relations() -> Vec<(&'static str, String)> {
    let own = own_relation();
    let kind = "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' \
                WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'composite type' WHEN 'f' THEN 'foreign table' ELSE 'relation' END";
    vec![
        (
            "schemas",
            format!(
                "SELECT 'schema', n.nspname::text, concat_ws(' ', 'owner', pg_get_userbyid(n.nspowner), 'privileges', {}) \
             FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} AND {}",
                acl("n", "n.nspacl", "n.nspowner"),
                no_member("pg_namespace", "n.oid")
            ),
        ),
        (
            "owners and privileges of relations",
            format!(
                "SELECT {kind} || ' owner', {RELATION}, pg_get_userbyid(c.relowner)::text FROM {FROM_RELATION} \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {own} UNION ALL \
             SELECT {kind} || ' privileges', {RELATION}, CASE WHEN c.relkind = 'S' THEN {} ELSE {} END FROM {FROM_RELATION} \
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {own}",
                acl("s", "c.relacl", "c.relowner"),
                acl("r", "c.relacl", "c.relowner")
            ),
        ),
        (
            "relations",
            format!(
                "SELECT {kind}, {RELATION}, concat_ws(' ', CASE c.relpersistence WHEN 'u' THEN 'unlogged' END, \
             CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END, \
             CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'not populated' END, \
             'options ' || NULLIF(array_to_string(ARRAY(SELECT o FROM unnest(c.reloptions) o WHERE {OPERATORS_OWN} ORDER BY 1), ','), ''), \
             'toast options ' || (SELECT NULLIF(array_to_string(ARRAY(SELECT o FROM unnest(t.reloptions) o WHERE {OPERATORS_OWN} ORDER BY 1), ','), '') \
             FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid), \
             'method ' || (SELECT m.amname FROM pg_catalog.pg_am m WHERE m.oid = c.relam), \
             CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relforcerowsecurity THEN 'forced' END, \
             CASE WHEN c.relreplident <> 'd' THEN 'replica identity ' || c.relreplident::text END, \
             'partition by ' || pg_get_partkeydef(c.oid), 'partition ' || pg_get_expr(c.relpartbound, c.oid), \
             'inherits ' || NULLIF((SELECT string_agg(i.inhparent::pg_catalog.regclass::text, ', ' ORDER BY i.inhseqno) \
             FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid), ''), \
             'of ' || CASE WHEN c.reloftype <> 0 THEN c.reloftype::pg_catalog.regtype::text END) \
             FROM {FROM_RELATION} WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {own}"
            ),
        ),
    ]
}

/// The columns of the relations of `kinds`.
fn columns(kinds: &str) -> String {
    format!(
        // A child of plain inheritance has, in a dump, its parents' columns first, whenever they were added; a partition
        // keeps its order.
        "SELECT 'column', {RELATION} || '.' || quote_ident(a.attname), concat_ws(' ', \
             CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid) \
             THEN row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END, format_type(a.atttypid, a.atttypmod), \
             'collate ' || CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation::text END, \
             CASE WHEN a.attnotnull THEN 'not null' END, 'identity ' || NULLIF(a.attidentity::text, ''), \
             'generated ' || NULLIF(a.attgenerated::text, ''), 'default ' || pg_get_expr(d.adbin, d.adrelid), \
             'statistics ' || NULLIF(a.attstattarget, -1), 'storage ' || NULLIF(a.attstorage, t.typstorage)::text, \
             'compression ' || NULLIF(a.attcompression::text, ''), 'options ' || NULLIF(array_to_string(ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE {OPERATORS_OWN} ORDER BY 1), ','), ''), \
             'fdw options ' || NULLIF(array_to_string(ARRAY(SELECT o FROM unnest(a.attfdwoptions) o ORDER BY 1), ', '), ''), CASE WHEN NOT a.attislocal THEN 'inherited' END) \
             FROM {FROM_RELATION} JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE c.relkind IN ({kinds}) AND {}",
        own_relation()
    )
}

/// What relations are made of, and what hangs on them.
fn parts_of_relations() -> Vec<(&'static str, String)> {
    let own = own_relation();
    vec![
        ("columns", columns("'r', 'p', 'v', 'm', 'c', 'f'")),
        (
            "privileges of columns",
            format!(
                "SELECT 'column privileges', {RELATION} || '.' || quote_ident(a.attname), \
             array_to_string(ARRAY(SELECT x::text FROM unnest(a.attacl) x ORDER BY 1), ' ') \
             FROM {FROM_RELATION} JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
             WHERE cardinality(a.attacl) > 0 AND NOT a.attisdropped AND {own}"
            ),
        ),
        (
            "constraints",
            format!(
                // A foreign key to a partitioned table has one more for each partition, which no dump carries.
                "SELECT 'constraint', quote_ident(k.conname) || ' on ' || {RELATION}, concat_ws(' ', pg_get_constraintdef(k.oid), \
             CASE WHEN NOT k.convalidated THEN 'not validated' END, CASE WHEN NOT k.conislocal THEN 'inherited' END) \
             FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {own} AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint above \
             WHERE above.oid = k.conparentid AND above.conrelid = k.conrelid)"
            ),
        ),
        (
            "indexes",
            format!(
                // pg_dump leaves out an index that a failed CREATE INDEX CONCURRENTLY left behind; so does this.
                "SELECT 'index', quote_ident(n.nspname) || '.' || quote_ident(ic.relname), concat_ws(' ', pg_get_indexdef(i.indexrelid), \
             CASE WHEN NOT i.indisvalid THEN 'invalid' END, CASE WHEN i.indisclustered THEN 'clustered' END, \
             CASE WHEN i.indisreplident THEN 'replica identity' END, \
             'attached to ' || (SELECT h.inhparent::pg_catalog.regclass::text FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid), \
             (SELECT 'statistics ' || string_agg(a.attnum || '=' || a.attstattarget, ' ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0)) FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE (i.indisvalid OR c.relkind = 'p') AND {own}"
            ),
        ),
        (
            "sequences",
            format!(
                "SELECT 'sequence', {RELATION}, concat_ws(' ', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement, \
             'max', s.seqmax, 'min', s.seqmin, 'cache', s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END, CASE c.relpersistence WHEN 'u' THEN 'unlogged' END, \
             'owned by ' || (SELECT d.refobjid::pg_catalog.regclass || '.' || quote_ident(a.attname) FROM pg_catalog.pg_depend d \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') LIMIT 1)) \
             FROM {FROM_RELATION} JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid WHERE {own}"
            ),
        ),
    ]
}

fn code() -> Vec<(&'static str, String)> {
    let own = own_relation();
    let member = no_member("pg_proc", "p.oid");
    vec![
        (
            "triggers",
            format!(
                // Before 15 a partition's copy of a trigger counts as internal.
                "SELECT 'trigger', quote_ident(g.tgname) || ' on ' || {RELATION}, pg_get_triggerdef(g.oid) || \
             CASE g.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' disabled' WHEN 'R' THEN ' replica' ELSE ' always' END \
             FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE (NOT g.tgisinternal OR g.tgparentid <> 0 AND g.tgconstraint = 0) AND {own} UNION ALL \
             SELECT 'constraint trigger', 'of ' || quote_ident(root.conname) || ' on ' || {RELATION}, \
             string_agg(DISTINCT g.tgenabled::text, ' ') FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint, {ROOT} \
             WHERE g.tgisinternal AND g.tgenabled <> 'O' AND {own} GROUP BY 1, 2"
            ),
        ),
        (
            "rules",
            format!(
                "SELECT 'rule', quote_ident(r.rulename) || ' on ' || {RELATION}, pg_get_ruledef(r.oid) || ' ' || r.ev_enabled::text \
             FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.rulename <> '_RETURN' AND {own}"
            ),
        ),
        (
            "policies",
            format!(
                "SELECT 'policy', quote_ident(p.polname) || ' on ' || {RELATION}, concat_ws(' ', p.polcmd, \
             CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, 'to ' || array_to_string(ARRAY(SELECT CASE WHEN r = 0 \
             THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r ORDER BY 1), ', '), \
             'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid)) \
             FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {own}"
            ),
        ),
        (
            "functions",
            format!(
                "SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, \
             p.oid::pg_catalog.regprocedure::text, CASE WHEN p.prokind = 'a' THEN (SELECT concat_ws(' ', a.aggtransfn, a.aggfinalfn, \
             a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn, a.aggkind, \
             format_type(a.aggtranstype, NULL), a.agginitval, a.aggminitval, format_type(NULLIF(a.aggmtranstype, 0), NULL), a.aggtransspace, a.aggnumdirectargs, \
             a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify, a.aggmfinalmodify, a.aggsortop::pg_catalog.regoperator, p.proparallel) \
             FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} AND {member} \
             UNION ALL SELECT 'function owner', p.oid::pg_catalog.regprocedure::text, pg_get_userbyid(p.proowner)::text \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} AND {member} \
             UNION ALL SELECT 'function privileges', p.oid::pg_catalog.regprocedure::text, {} \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} AND {member}",
                acl("f", "p.proacl", "p.proowner")
            ),
        ),
    ]
}

/// The types that are the operator's own; `t` and `n` are the aliases of [`FROM_TYPE`].
fn own_type() -> String {
    format!(
        "{USER_SCHEMA} AND t.typcategory <> 'A' AND (t.typrelid = 0 OR (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid) = 'c') \
         AND t.typtype <> 'm' AND {}",
        no_member("pg_type", "t.oid")
    )
}

const FROM_TYPE: &str = "pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace";

/// The name of a type, quoted where needed.
const TYPE: &str = "quote_ident(n.nspname) || '.' || quote_ident(t.typname)";

fn types_themselves() -> String {
    format!(
        "SELECT CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite type' \
             ELSE 'type' END, {TYPE}, concat_ws(' ', \
             (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid), \
             CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, CASE WHEN t.typnotnull THEN 'not null' END, \
             'default ' || t.typdefault, \
             (SELECT concat_ws(' ', format_type(r.rngsubtype, NULL), o.opcname, NULLIF(r.rngcollation, 0)::pg_catalog.regcollation, \
             r.rngcanonical, r.rngsubdiff, 'multirange', r.rngmultitypid::pg_catalog.regtype) FROM pg_catalog.pg_range r JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc WHERE r.rngtypid = t.oid), \
             CASE WHEN t.typtype = 'b' THEN concat_ws(' ', t.typinput, t.typoutput, \
             t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typlen, CASE WHEN t.typbyval THEN 'by value' END, t.typalign, \
             t.typstorage, t.typcategory, t.typispreferred, t.typdelim, NULLIF(t.typelem, 0)::pg_catalog.regtype) END, \
             NULLIF(t.typcollation, 0)::pg_catalog.regcollation) FROM {FROM_TYPE} WHERE {}",
        own_type()
    )
}

fn types() -> Vec<(&'static str, String)> {
    let (own, name, from) = (own_type(), TYPE, FROM_TYPE);
    vec![
        ("types", types_themselves()),
        (
            "owners and privileges of types",
            format!(
                "SELECT 'type owner', {name}, pg_get_userbyid(t.typowner)::text FROM {from} WHERE {own} UNION ALL \
             SELECT 'type privileges', {name}, {} FROM {from} WHERE {own}",
                acl("T", "t.typacl", "t.typowner")
            ),
        ),
        (
            "constraints of domains",
            format!(
                "SELECT 'constraint', quote_ident(k.conname) || ' on ' || {name}, concat_ws(' ', pg_get_constraintdef(k.oid), \
             CASE WHEN NOT k.convalidated THEN 'not validated' END) FROM pg_catalog.pg_constraint k \
             JOIN pg_catalog.pg_type t ON t.oid = k.contypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE {own}"
            ),
        ),
    ]
}

fn rest(version: u32) -> Vec<(&'static str, String)> {
    let (provider, locale) = match version {
        ..150_000 => ("'c'", "NULL"),
        150_000..170_000 => ("d.datlocprovider::text", "d.daticulocale"),
        170_000.. => ("d.datlocprovider::text", "d.datlocale"),
    };
    vec![
        ("extensions", "SELECT 'extension', x.extname::text, concat_ws(' ', x.extversion, 'in', n.nspname) \
             FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace".to_owned()),
        ("extended statistics", format!(
            "SELECT 'statistics', quote_ident(n.nspname) || '.' || quote_ident(s.stxname), concat_ws(' ', pg_get_statisticsobjdef(s.oid), \
             'target ' || NULLIF(s.stxstattarget, -1), 'owner', pg_get_userbyid(s.stxowner)) FROM pg_catalog.pg_statistic_ext s \
             JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE {USER_SCHEMA}")),
        ("tablespaces", format!(
            "SELECT 'tablespace', {RELATION}, (SELECT t.spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace) \
             FROM {FROM_RELATION} WHERE c.reltablespace <> 0 AND {} UNION ALL SELECT 'tablespace', 'of the database', t.spcname::text \
             FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace \
             WHERE d.datname = current_database() AND t.spcname <> 'pg_default'", own_relation())),
        ("default privileges", "SELECT 'default privileges', concat_ws(' ', 'of', pg_get_userbyid(d.defaclrole), 'for', d.defaclobjtype, \
             'in ' || (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = d.defaclnamespace)), \
             array_to_string(ARRAY(SELECT x::text FROM unnest(d.defaclacl) x ORDER BY 1), ' ') FROM pg_catalog.pg_default_acl d".to_owned()),
        ("comments", format!(
            "SELECT 'comment', i.type || ' ' || CASE i.type WHEN 'transform' THEN replace(i.identity, ' on language ', ' language ') ELSE i.identity END, d.description FROM pg_catalog.pg_description d, \
             LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i \
             WHERE d.classoid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND (d.objoid >= 16384 OR d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass) AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e \
             WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e') AND i.identity IS NOT NULL \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE quote_ident(n.nspname) = CASE i.type WHEN 'schema' THEN i.name ELSE i.schema END AND {SCRATCH})")),
        // PostgreSQL 16 began to write ICU's locales as language tags: `de_DE` became `de-DE`.
        ("properties of the database", format!(
            "SELECT 'database', p.name, p.value FROM pg_catalog.pg_database d, LATERAL (VALUES \
             ('encoding', pg_encoding_to_char(d.encoding)::text), ('collate', d.datcollate::text), ('ctype', d.datctype::text), \
             ('locale provider', {provider}), ('locale', coalesce(replace({locale}, '_', '-'), '')), \
             ('owner', pg_get_userbyid(d.datdba)::text), ('privileges', {}), ('connection limit', d.datconnlimit::text), \
             ('comment', coalesce({COMMENT}, ''))) p(name, value) WHERE d.datname = current_database() UNION ALL \
             SELECT 'database setting', concat_ws(' ', split_part(s.pair, '=', 1), 'of ' || NULLIF(s.role, '')), \
             substr(s.pair, strpos(s.pair, '=') + 1) FROM (SELECT unnest(r.setconfig) AS pair, \
             CASE WHEN r.setrole = 0 THEN '' ELSE pg_get_userbyid(r.setrole)::text END AS role FROM pg_catalog.pg_db_role_setting r \
             JOIN pg_catalog.pg_database d ON d.oid = r.setdatabase WHERE d.datname = current_database()) s WHERE s.pair NOT LIKE 'warmspare.%'",
            acl("d", "d.datacl", "d.datdba"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_being_written_and_read() {
        let line =
            Line { kind: "function".into(), name: "a\tb".into(), definition: "BEGIN\n\treturn '\\n';\r\nEND".into() };
        assert!(!line.to_string().contains('\n'));
        assert_eq!(Line::parse(&line.to_string()), Some(line));
        assert_eq!(Line::parse("only\ttwo"), None);
    }
}
