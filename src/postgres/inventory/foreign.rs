//! Foreign data: wrappers, servers, user mappings, foreign tables. What is at the other server is not ours to compare.

use super::{FROM_RELATION, RELATION, acl, no_member, own_relation};

/// A list of options. Their order means nothing, and a dump sorts them.
fn options(list: &str) -> String {
    format!("'options ' || NULLIF(array_to_string(ARRAY(SELECT x FROM unnest({list}) x ORDER BY 1), ', '), '')")
}

pub(super) fn queries() -> Vec<(&'static str, String)> {
    vec![
        (
            "foreign-data wrappers",
            format!(
                "SELECT 'foreign-data wrapper', quote_ident(o.fdwname), concat_ws(' ', NULLIF(o.fdwhandler, 0)::pg_catalog.regproc, \
                 NULLIF(o.fdwvalidator, 0)::pg_catalog.regproc, {}, 'owner', pg_get_userbyid(o.fdwowner), 'privileges', {}) \
                 FROM pg_catalog.pg_foreign_data_wrapper o WHERE {}",
                options("o.fdwoptions"),
                acl("F", "o.fdwacl", "o.fdwowner"),
                no_member("pg_foreign_data_wrapper", "o.oid")
            ),
        ),
        (
            "foreign servers",
            format!(
                "SELECT 'foreign server', quote_ident(o.srvname), concat_ws(' ', 'wrapper', \
                 (SELECT w.fdwname FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.oid = o.srvfdw), 'type ' || o.srvtype, \
                 'version ' || o.srvversion, {}, 'owner', pg_get_userbyid(o.srvowner), 'privileges', {}) \
                 FROM pg_catalog.pg_foreign_server o WHERE {}",
                options("o.srvoptions"),
                acl("S", "o.srvacl", "o.srvowner"),
                no_member("pg_foreign_server", "o.oid")
            ),
        ),
        (
            "user mappings",
            // Their options hold passwords.
            "SELECT 'user mapping', coalesce(quote_ident(u.usename), 'public') || ' on ' || quote_ident(u.srvname), \
             md5(array_to_string(ARRAY(SELECT x FROM unnest(u.umoptions) x ORDER BY 1), ', ')) FROM pg_catalog.pg_user_mappings u"
                .to_owned(),
        ),
        (
            "foreign tables",
            format!(
                "SELECT 'foreign table', {RELATION}, concat_ws(' ', 'server', \
                 (SELECT s.srvname FROM pg_catalog.pg_foreign_server s WHERE s.oid = f.ftserver), {}, \
                 'partition ' || pg_get_expr(c.relpartbound, c.oid), \
                 'inherits ' || NULLIF((SELECT string_agg(i.inhparent::pg_catalog.regclass::text, ', ' ORDER BY i.inhseqno) \
                 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid), '')) \
                 FROM {FROM_RELATION} JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid WHERE {}",
                options("f.ftoptions"),
                own_relation()
            ),
        ),
    ]
}
