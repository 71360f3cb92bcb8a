//! What hangs on no relation: operators and what is built of them, text search, languages, event triggers, replication,
//! and privileges changed on what belongs to extensions or to the system.

use super::super::catalog::USER_SCHEMA;
use super::{acl, no_member};

/// An object of the operator's: not the system's (16384 is FirstNormalObjectId), not an extension's.
fn own(catalog: &str, alias: &str) -> String {
    format!("{alias}.oid >= 16384 AND {}", no_member(catalog, &format!("{alias}.oid")))
}

/// What `pg_identify_object` calls it. Of a transform 17 left out a word.
fn identity(catalog: &str, alias: &str) -> String {
    format!(
        "(SELECT CASE i.type WHEN 'transform' THEN replace(i.identity, ' on language ', ' language ') ELSE i.identity END FROM pg_identify_object('pg_catalog.{catalog}'::pg_catalog.regclass, {alias}.oid, 0) i)"
    )
}

/// One line for each object of a catalog that is the operator's own.
fn each(kind: &str, catalog: &str, definition: &str) -> String {
    format!(
        "SELECT '{kind}', {}, concat_ws(' ', {definition}) FROM pg_catalog.{catalog} o WHERE {}",
        identity(catalog, "o"),
        own(catalog, "o")
    )
}

pub(super) fn queries(version: u32, superuser: bool) -> Vec<(&'static str, String)> {
    let mut all = operators();
    all.extend(text_search());
    all.extend(languages());
    all.extend(replication(version, superuser));
    all.push(("changed privileges of the system and of extensions", changed_privileges()));
    all
}

fn operators() -> Vec<(&'static str, String)> {
    vec![
        (
            "operators",
            each(
                "operator",
                "pg_operator",
                "o.oprcode, 'commutator', o.oprcom::pg_catalog.regoperator, 'negator', o.oprnegate::pg_catalog.regoperator, \
                 'restrict', o.oprrest, 'join', o.oprjoin, CASE WHEN o.oprcanmerge THEN 'merges' END, \
                 CASE WHEN o.oprcanhash THEN 'hashes' END, 'owner', pg_get_userbyid(o.oprowner)",
            ),
        ),
        (
            "operator classes",
            each(
                "operator class",
                "pg_opclass",
                "format_type(o.opcintype, NULL), 'stores', format_type(NULLIF(o.opckeytype, 0), NULL), \
                 CASE WHEN o.opcdefault THEN 'default' END, 'family', (SELECT f.opfname FROM pg_catalog.pg_opfamily f WHERE f.oid = o.opcfamily), \
                 'owner', pg_get_userbyid(o.opcowner)",
            ),
        ),
        (
            "operator families",
            each(
                "operator family",
                "pg_opfamily",
                "(SELECT string_agg(concat_ws(' ', p.amopstrategy, p.amopopr::pg_catalog.regoperator, p.amoppurpose, \
                 (SELECT s.opfname FROM pg_catalog.pg_opfamily s WHERE s.oid = p.amopsortfamily)), ', ' \
                 ORDER BY p.amopstrategy, p.amopopr::pg_catalog.regoperator::text) FROM pg_catalog.pg_amop p WHERE p.amopfamily = o.oid), \
                 (SELECT string_agg(concat_ws(' ', p.amprocnum, p.amproc::pg_catalog.regprocedure, format_type(p.amproclefttype, NULL), \
                 format_type(p.amprocrighttype, NULL)), ', ' ORDER BY p.amprocnum, p.amproc::pg_catalog.regprocedure::text) \
                 FROM pg_catalog.pg_amproc p WHERE p.amprocfamily = o.oid), 'owner', pg_get_userbyid(o.opfowner)",
            ),
        ),
        (
            "casts",
            each("cast", "pg_cast", "o.castmethod, o.castcontext, NULLIF(o.castfunc, 0)::pg_catalog.regprocedure"),
        ),
        (
            "transforms",
            each(
                "transform",
                "pg_transform",
                "o.trffromsql::pg_catalog.regprocedure, o.trftosql::pg_catalog.regprocedure",
            ),
        ),
        (
            "conversions",
            each(
                "conversion",
                "pg_conversion",
                "pg_encoding_to_char(o.conforencoding), pg_encoding_to_char(o.contoencoding), o.conproc, \
                 CASE WHEN o.condefault THEN 'default' END, 'owner', pg_get_userbyid(o.conowner)",
            ),
        ),
        (
            "collations",
            // What the provider's library calls its version is another on another host, and no part of the definition.
            each(
                "collation",
                "pg_collation",
                "o.collprovider, o.collencoding, CASE WHEN NOT o.collisdeterministic THEN 'nondeterministic' END, o.collcollate, o.collctype, \
                 coalesce(to_jsonb(o) ->> 'colliculocale', to_jsonb(o) ->> 'colllocale'), to_jsonb(o) ->> 'collicurules', \
                 'owner', pg_get_userbyid(o.collowner)",
            ),
        ),
        ("access methods", each("access method", "pg_am", "o.amtype, o.amhandler")),
    ]
}

fn text_search() -> Vec<(&'static str, String)> {
    vec![
        (
            "text search configurations",
            each(
                "text search configuration",
                "pg_ts_config",
                "(SELECT p.prsname FROM pg_catalog.pg_ts_parser p WHERE p.oid = o.cfgparser), \
                 (SELECT string_agg(m.maptokentype || ' ' || m.mapdict::pg_catalog.regdictionary, ', ' ORDER BY m.maptokentype, m.mapseqno) \
                 FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = o.oid), 'owner', pg_get_userbyid(o.cfgowner)",
            ),
        ),
        (
            "text search dictionaries",
            each(
                "text search dictionary",
                "pg_ts_dict",
                "(SELECT t.tmplname FROM pg_catalog.pg_ts_template t WHERE t.oid = o.dicttemplate), o.dictinitoption, \
                 'owner', pg_get_userbyid(o.dictowner)",
            ),
        ),
        (
            "text search parsers",
            each("text search parser", "pg_ts_parser", "o.prsstart, o.prstoken, o.prsend, o.prsheadline, o.prslextype"),
        ),
        ("text search templates", each("text search template", "pg_ts_template", "o.tmplinit, o.tmpllexize")),
    ]
}

fn languages() -> Vec<(&'static str, String)> {
    let privileges = acl("l", "o.lanacl", "o.lanowner");
    vec![
        (
            "languages",
            each(
                "language",
                "pg_language",
                &format!(
                    "CASE WHEN o.lanpltrusted THEN 'trusted' END, o.lanplcallfoid::pg_catalog.regproc, o.laninline::pg_catalog.regproc, \
                     o.lanvalidator::pg_catalog.regproc, 'owner', pg_get_userbyid(o.lanowner), 'privileges', {privileges}"
                ),
            ),
        ),
        (
            "event triggers",
            each(
                "event trigger",
                "pg_event_trigger",
                "o.evtevent, 'tags ' || array_to_string(o.evttags, ', '), o.evtfoid::pg_catalog.regprocedure, 'enabled', o.evtenabled, \
                 'owner', pg_get_userbyid(o.evtowner)",
            ),
        ),
        (
            "security labels",
            // Those of large objects are compared with the large objects.
            "SELECT 'security label', i.type || ' ' || i.identity || ' for ' || s.provider, s.label FROM pg_catalog.pg_seclabel s, \
             LATERAL pg_identify_object(s.classoid, s.objoid, s.objsubid) i \
             WHERE s.classoid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass UNION ALL \
             SELECT 'security label', 'database for ' || s.provider, s.label FROM pg_catalog.pg_shseclabel s \
             JOIN pg_catalog.pg_database d ON d.oid = s.objoid AND s.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass \
             WHERE d.datname = current_database()"
                .to_owned(),
        ),
    ]
}

fn replication(version: u32, superuser: bool) -> Vec<(&'static str, String)> {
    let (filter, schemas) = if version >= 150_000 {
        (
            "' where ' || pg_get_expr(r.prqual, r.prrelid), ' columns ' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs))",
            "(SELECT 'schemas ' || string_agg(n.pnnspid::pg_catalog.regnamespace::text, ', ' ORDER BY n.pnnspid::pg_catalog.regnamespace::text) \
             FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = o.oid)",
        )
    } else {
        ("NULL", "NULL::text")
    };
    let definition = format!(
        "CASE WHEN o.puballtables THEN 'all tables' END, CASE WHEN o.pubinsert THEN 'insert' END, CASE WHEN o.pubupdate THEN 'update' END, \
         CASE WHEN o.pubdelete THEN 'delete' END, CASE WHEN o.pubtruncate THEN 'truncate' END, CASE WHEN o.pubviaroot THEN 'via root' END, \
         (SELECT 'tables ' || string_agg(concat(r.prrelid::pg_catalog.regclass, {filter}), ', ' ORDER BY r.prrelid::pg_catalog.regclass::text) \
         FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = o.oid), {schemas}, 'owner', pg_get_userbyid(o.pubowner)"
    );
    let mut all = vec![("publications", each("publication", "pg_publication", &definition))];
    if superuser {
        // Where it connects to holds a password, and whether it is enabled is decided at promotion.
        let sql = "SELECT 'subscription', quote_ident(s.subname), concat_ws(' ', 'connection', md5(s.subconninfo), 'slot', s.subslotname, \
                   'publications', array_to_string(s.subpublications, ', '), s.subsynccommit, CASE WHEN s.subbinary THEN 'binary' END, \
                   'stream', left(s.substream::text, 1), 'owner', pg_get_userbyid(s.subowner)) FROM pg_catalog.pg_subscription s \
                   JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()";
        all.push(("subscriptions", sql.to_owned()));
    }
    all
}

/// Privileges that were changed on what an extension or the system itself brought. The owner of these bears another name
/// on another server, so what he may do is left out.
fn changed_privileges() -> String {
    let of = |catalog: &str, list: &str, owner: &str, kind: &str| {
        let told = |list: &str| {
            format!(
                "(SELECT coalesce(string_agg(CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END || ' ' || g.privilege_type \
                 || CASE WHEN g.is_grantable THEN ' grantable' ELSE '' END, ', ' \
                 ORDER BY g.grantee = 0 DESC, pg_get_userbyid(g.grantee), g.privilege_type), 'nobody') \
                 FROM aclexplode(coalesce({list}, acldefault({kind}, o.{owner}))) g WHERE g.grantee <> o.{owner})"
            )
        };
        let (now, before) = (told(&format!("o.{list}")), told("p.initprivs"));
        format!(
            "SELECT 'changed privileges', i.type || ' ' || i.identity, {now} FROM pg_catalog.{catalog} o \
             LEFT JOIN pg_catalog.pg_init_privs p ON p.objoid = o.oid AND p.classoid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND p.objsubid = 0, \
             LATERAL pg_identify_object('pg_catalog.{catalog}'::pg_catalog.regclass, o.oid, 0) i \
             WHERE o.{list} IS NOT NULL AND o.{list} IS DISTINCT FROM p.initprivs \
             AND (o.oid < 16384 OR NOT {}) AND {now} <> {before}",
            no_member(catalog, "o.oid")
        )
    };
    let relation = "(CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\"";
    let parts = [
        of("pg_class", "relacl", "relowner", relation),
        of("pg_proc", "proacl", "proowner", "'f'"),
        of("pg_type", "typacl", "typowner", "'T'"),
        of("pg_language", "lanacl", "lanowner", "'l'"),
        of("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "'F'"),
    ];
    format!(
        "{} UNION ALL SELECT 'changed privileges', 'schema ' || quote_ident(n.nspname), {} FROM pg_catalog.pg_namespace n \
         WHERE {USER_SCHEMA} AND NOT {}",
        parts.join(" UNION ALL "),
        acl("n", "n.nspacl", "n.nspowner"),
        no_member("pg_namespace", "n.oid")
    )
}
