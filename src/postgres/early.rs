//! Which definitions of a script can be run as soon as one table has its rows, while other tables are still on their way.
//!
//! Those are indexes over columns and nothing else: what an expression or a `WHERE` calls may look into other tables,
//! which would be empty yet, whatever it has promised.

use std::collections::HashMap;

/// A table: its schema and its name, unquoted.
pub type TableName = (String, String);

/// The definitions of a script, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// What the script sets first, for the session that runs any of it.
    pub settings: Vec<&'a str>,
    /// Of each table the statements that need its rows only, in order.
    pub early: HashMap<TableName, Vec<&'a str>>,
    /// All others, in order; the settings once more.
    pub rest: Vec<&'a str>,
}

/// Takes from `statements` what needs the rows of one of `tables` only. What goes to a tablespace of its own is left where it is,
/// behind the statement that names the tablespace.
pub fn split<'a>(statements: &[&'a str], tables: &[TableName]) -> Parts<'a> {
    let is_setting = |each: &&&str| each.starts_with("SET ") || each.starts_with("SELECT pg_catalog.set_config(");
    let is_place = |each: &str| each.starts_with("SET default_tablespace");
    let mut parts = Parts {
        settings: statements.iter().take_while(is_setting).filter(|each| !is_place(each)).copied().collect(),
        ..Parts::default()
    };
    let mut elsewhere = false;
    for statement in statements {
        if is_place(statement) {
            elsewhere = *statement != "SET default_tablespace = ''";
        }
        match plain_index(statement).filter(|table| !elsewhere && tables.contains(table)) {
            Some(table) => parts.early.entry(table).or_default().push(statement),
            None => parts.rest.push(statement),
        }
    }
    parts
}

/// The table of a statement that makes an index over plain columns, as `pg_dump` writes it.
fn plain_index(statement: &str) -> Option<TableName> {
    if let Some(rest) = statement.strip_prefix("ALTER TABLE ONLY ") {
        let (table, rest) = qualified(rest)?;
        let (_, rest) = identifier(rest.strip_prefix("\n    ADD CONSTRAINT ")?)?;
        let is_key = rest.starts_with(" PRIMARY KEY (") || rest.starts_with(" UNIQUE (");
        return is_key.then_some(table);
    }
    let rest = statement.strip_prefix("CREATE UNIQUE INDEX ").or_else(|| statement.strip_prefix("CREATE INDEX "))?;
    let (_, rest) = identifier(rest)?;
    let (table, rest) = qualified(rest.strip_prefix(" ON ")?)?;
    let plain = rest.starts_with(" USING ") && rest.matches('(').count() == 1 && !rest.contains(" WHERE ");
    plain.then_some(table)
}

fn qualified(text: &str) -> Option<(TableName, &str)> {
    let (schema, rest) = identifier(text)?;
    let (name, rest) = identifier(rest.strip_prefix('.')?)?;
    Some(((schema, name), rest))
}

/// The identifier at the start, unquoted, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))?;
        let (name, rest) = text.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
        return Some((name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str) -> TableName {
        (schema.to_owned(), name.to_owned())
    }

    #[test]
    fn plain_indexes_are_told_from_all_others() {
        let plain = |statement| plain_index(statement);
        assert_eq!(plain("CREATE INDEX i ON public.t USING btree (a, b DESC)"), Some(table("public", "t")));
        assert_eq!(
            plain("CREATE UNIQUE INDEX \"I ON \"\"x\" ON \"S.\".\"t\"\"\" USING gin (a)"),
            Some(table("S.", "t\""))
        );
        assert_eq!(
            plain("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id)"),
            Some(table("public", "t"))
        );
        assert_eq!(
            plain("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (id) INCLUDE (x)"),
            Some(table("public", "t"))
        );
        for other in [
            "CREATE INDEX i ON ONLY public.t USING btree (a)",
            "CREATE INDEX i ON public.t USING btree (lower(a))",
            "CREATE INDEX i ON public.t USING btree (a) WHERE b",
            "CREATE INDEX i ON public.t USING btree (a) WITH (fillfactor='70')",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u(id)",
            "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT x EXCLUDE USING gist (a WITH &&)",
            "ALTER TABLE ONLY public.t REPLICA IDENTITY FULL",
            "ALTER TABLE public.t CLUSTER ON i",
            "COMMENT ON INDEX public.i IS 'CREATE INDEX i ON public.t USING btree (a)'",
            "CREATE INDEX",
            "",
        ] {
            assert_eq!(plain(other), None, "{other}");
        }
    }

    #[test]
    fn what_has_a_place_of_its_own_or_no_rows_of_its_own_stays_in_order() {
        let [a, b, c] = ["a", "b", "c"]
            .map(|name| format!("ALTER TABLE ONLY public.{name}\n    ADD CONSTRAINT k PRIMARY KEY (id)"));
        let script = [
            "SET lock_timeout = 0",
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SET default_tablespace = ''",
            &a,
            "SET default_tablespace = fast",
            &b,
            "SET default_tablespace = ''",
            &c,
            "CREATE RULE r",
        ];
        let parts = split(&script, &[table("public", "a"), table("public", "b")]);
        assert_eq!(parts.settings, script[..2]);
        assert_eq!(parts.early, HashMap::from([(table("public", "a"), vec![a.as_str()])]));
        assert_eq!(parts.rest, [&script[..3], &script[4..]].concat());
    }
}
