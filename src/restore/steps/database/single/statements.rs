//! Out of pg_dump's script the statements that make one table, said anew for another schema.
//!
//! `CREATE TABLE … (LIKE …)` needs the table, which is often what was lost, and the catalogs that a snapshot holds tell columns and
//! constraints in words for a person. pg_dump's own statements always work, and each names the table once, at its beginning, where it
//! can be replaced without reading the rest. What is taken: the table, the defaults that need no sequence, constraints but for
//! foreign keys, indexes. Everything else (owners, privileges, triggers, policies, statistics, comments) is not looked at.

use crate::postgres::quote::qualified;

/// A table by schema and name, not quoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// `schema.table`, either of them quoted if need be.
    pub fn parse(text: &str) -> Option<TableName> {
        let (name, rest) = TableName::take(text)?;
        rest.is_empty().then_some(name)
    }

    /// The name at the start of `text`, and what follows it.
    fn take(text: &str) -> Option<(TableName, &str)> {
        let (schema, rest) = identifier(text)?;
        let (table, rest) = identifier(rest.strip_prefix('.')?)?;
        Some((TableName { schema, table }, rest))
    }

    /// Both parts quoted.
    pub fn quoted(&self) -> String {
        qualified(&self.schema, &self.table)
    }
}

/// A name as pg_dump writes it, quoted or plain, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = text.find(|c| !plain(c)).unwrap_or(text.len());
        return (end > 0)
            .then(|| (text.get(..end).unwrap_or_default().to_owned(), text.get(end..).unwrap_or_default()));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, rest)),
        }
    }
}

/// What makes one table in another schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    /// `CREATE UNLOGGED TABLE`; `None` when the script makes no such table.
    pub create: Option<String>,
    /// Why the table cannot stand alone.
    pub hindrance: Option<&'static str>,
    /// The defaults, before the rows.
    pub defaults: Vec<String>,
    /// Constraints and indexes, after the rows.
    pub rest: Vec<String>,
}

/// Finds them among the `statements` of a script, pre-data and post-data, and says them for `to`. The new table is unlogged: its rows go
/// neither through the write-ahead log nor to a subscriber of all tables.
pub fn of_table(statements: &[&str], of: &TableName, to: &TableName) -> Statements {
    let mut found = Statements::default();
    let table = to.quoted();
    for statement in statements {
        if let Some(rest) = after(statement, &["CREATE TABLE ", "CREATE UNLOGGED TABLE "], of) {
            found.hindrance = hindrance(rest);
            found.create = Some(format!("CREATE UNLOGGED TABLE {table}{rest}"));
        } else if let Some(rest) = after(statement, &["ALTER TABLE ONLY ", "ALTER TABLE "], of) {
            let act = rest.trim_start();
            if act.starts_with("ALTER COLUMN ") && act.contains(" SET DEFAULT ") && !act.contains("nextval(") {
                found.defaults.push(format!("ALTER TABLE {table} {act}"));
            } else if act.starts_with("ADD CONSTRAINT ") && !is_foreign_key(act) {
                found.rest.push(format!("ALTER TABLE {table} {act}"));
            }
        } else if let Some((head, rest)) = index_on(statement, of) {
            found.rest.push(format!("{head} ON {table}{rest}"));
        }
    }
    found
}

/// What follows the name of the table, if the statement begins with one of `heads` and it.
fn after<'a>(statement: &'a str, heads: &[&str], of: &TableName) -> Option<&'a str> {
    let rest = heads.iter().find_map(|head| statement.strip_prefix(head))?;
    let (name, rest) = TableName::take(rest)?;
    (name == *of).then_some(rest)
}

/// `CREATE INDEX name ON schema.table rest` as what comes before and after the table.
fn index_on<'a>(statement: &'a str, of: &TableName) -> Option<(&'a str, &'a str)> {
    let named = ["CREATE INDEX ", "CREATE UNIQUE INDEX "].iter().find_map(|head| statement.strip_prefix(head))?;
    let (_, rest) = identifier(named)?;
    let head = statement.get(..statement.len() - rest.len())?;
    let rest = rest.strip_prefix(" ON ")?;
    let (name, rest) = TableName::take(rest.strip_prefix("ONLY ").unwrap_or(rest))?;
    (name == *of).then_some((head, rest))
}

fn is_foreign_key(act: &str) -> bool {
    let named = act.strip_prefix("ADD CONSTRAINT ").and_then(identifier);
    named.is_none_or(|(_, rest)| rest.trim_start().starts_with("FOREIGN KEY"))
}

fn hindrance(rest: &str) -> Option<&'static str> {
    let clause = |word: &str| rest.lines().any(|line| line.trim_start_matches(')').trim_start().starts_with(word));
    match () {
        () if clause("INHERITS (") => Some("inherits columns from another table"),
        () if clause("PARTITION BY ") => Some("is partitioned and holds no rows itself; name its partitions"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::script;

    fn name(text: &str) -> TableName {
        TableName::parse(text).unwrap()
    }

    #[test]
    fn names_are_read_as_pg_dump_writes_them() {
        let check = |text: &str, schema: &str, table: &str| {
            assert_eq!(TableName::parse(text), Some(TableName { schema: schema.into(), table: table.into() }));
        };
        check("public.packages", "public", "packages");
        check("\"odd, schema\".\"with \"\"quotes\"\".\"", "odd, schema", "with \"quotes\".");
        check("public.tü$1", "public", "tü$1");
        for wrong in ["packages", "public.", "a.b.c", "a.b ", "\"a.b", ".b", "\"\".b"] {
            assert_eq!(TableName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn of_a_script_the_statements_of_one_table_are_taken_and_said_for_another_schema() {
        let text = "CREATE TABLE public.t (\n    id bigint NOT NULL,\n    x text DEFAULT 'CREATE TABLE public.t'::text\n);\n\
            CREATE TABLE public.tt (id int);\nALTER TABLE public.t OWNER TO app;\n\
            ALTER TABLE public.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME public.t_id_seq);\n\
            ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.t_id_seq'::regclass);\n\
            ALTER TABLE ONLY public.t ALTER COLUMN x SET DEFAULT public.f();\n\
            ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n\
            ALTER TABLE ONLY public.t\n    ADD CONSTRAINT \"a FOREIGN KEY\" UNIQUE (x);\n\
            ALTER TABLE ONLY public.t\n    ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES public.tt(id);\n\
            CREATE UNIQUE INDEX \"odd ON public.t\" ON public.t USING btree (x) WHERE (x <> ' ON public.t'::text);\n\
            CREATE INDEX i ON public.tt USING btree (id);\nCREATE TRIGGER a BEFORE INSERT ON public.t EXECUTE FUNCTION public.f();";
        let found = of_table(&script::statements(text), &name("public.t"), &name("\"warmspare_0-1\".t"));
        let to = "\"warmspare_0-1\".\"t\"";
        assert!(found.create.unwrap().starts_with(&format!("CREATE UNLOGGED TABLE {to} (\n    id bigint NOT NULL")));
        assert_eq!(found.hindrance, None);
        assert_eq!(found.defaults, [format!("ALTER TABLE {to} ALTER COLUMN x SET DEFAULT public.f()")]);
        let rest = [
            format!("ALTER TABLE {to} ADD CONSTRAINT t_pkey PRIMARY KEY (id)"),
            format!("ALTER TABLE {to} ADD CONSTRAINT \"a FOREIGN KEY\" UNIQUE (x)"),
            format!(
                "CREATE UNIQUE INDEX \"odd ON public.t\" ON {to} USING btree (x) WHERE (x <> ' ON public.t'::text)"
            ),
        ];
        assert_eq!(found.rest, rest);
    }

    #[test]
    fn a_table_that_cannot_stand_alone_is_told() {
        let hindrance = |text: &str| of_table(&[text], &name("public.t"), &name("s.t")).hindrance;
        assert_eq!(
            hindrance("CREATE TABLE public.t (\n    b integer\n)\nINHERITS (public.p)"),
            Some("inherits columns from another table")
        );
        assert!(hindrance("CREATE TABLE public.t (\n    b integer\n)\nPARTITION BY RANGE (b)").is_some());
        assert_eq!(hindrance("CREATE TABLE public.t (\n    b integer\n)\nWITH (fillfactor='70')"), None);
        assert_eq!(of_table(&[], &name("public.t"), &name("s.t")), Statements::default());
    }
}
