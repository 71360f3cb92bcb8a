//! A role that is no superuser: what it needs is said as statements, and with these a capture is whole.

use secrecy::SecretString;
use warmspare::capture::database::capture;
use warmspare::capture::layout;
use warmspare::clock::SystemClock;
use warmspare::error::{Class, Error};
use warmspare::observe::Progress;

use super::everything::{EVERYTHING, Provisions};
use super::{Taken, bring_back, differences, options, target, words};
use crate::support::memory::MemorySink;
use crate::support::postgres::PostgresServer;

/// A capture by the role `backup`.
async fn by_backup(server: &PostgresServer, database: &str) -> Result<Taken, Error> {
    let mut address = server.address(database);
    address.url = address.url.replace("warmspare@", "backup@");
    let sinks = |_| async { Ok(MemorySink::default()) };
    let password = Some(SecretString::from("p"));
    capture(&address, password, sinks, &options(), &SystemClock, &Progress::silent()).await
}

/// What the error says is to be run.
fn statements(error: &Error) -> String {
    let next = error.next_step().unwrap();
    let statements = next.strip_prefix("As a superuser run in that database: ");
    statements.unwrap_or_else(|| panic!("{error}\n→ {next}")).to_owned()
}

/// What a role that is no superuser cannot read, whatever it is granted.
const ONLY_SUPERUSERS: [&str; 2] = ["SUBSCRIPTION", "USER MAPPING"];

#[tokio::test]
async fn with_the_statements_that_a_refusal_tells_a_plain_role_captures_everything_and_it_comes_back() {
    let provisions = Provisions::made();
    let (live, spare) = (provisions.server(), provisions.server());
    let mut kept = warmspare::postgres::script::statements(EVERYTHING);
    kept.retain(|each| !ONLY_SUPERUSERS.iter().any(|word| each.contains(word)));
    live.create("everything", &kept.join(";\n")).await;
    live.sql("postgres", "CREATE ROLE backup LOGIN PASSWORD 'p'; REVOKE CONNECT ON DATABASE everything FROM PUBLIC")
        .await;
    live.sql(
        "everything",
        "SET session_replication_role = replica; CREATE SCHEMA closed; CREATE TABLE closed.t (a int)",
    )
    .await;

    let error = by_backup(&live, "everything").await.unwrap_err();
    assert_eq!(statements(&error), "GRANT CONNECT ON DATABASE \"everything\" TO \"backup\";");
    live.sql("postgres", &statements(&error)).await;

    let error = by_backup(&live, "everything").await.unwrap_err();
    let (text, class) = (error.to_string(), error.class());
    for line in [
        "\n  table closed.t\n",
        "\n  table public.huge\n",
        "\n  table keeps.all_mine\n",
        "\n  sequence public.counting\n",
        "\n  table public.secret (its row security hides rows)\n",
        "\n  large object 70002",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert_eq!(class, Class::Refused);
    let expect = "GRANT pg_read_all_data TO \"backup\"; ALTER ROLE \"backup\" BYPASSRLS; ALTER ROLE \"backup\" SET lo_compat_privileges = on;";
    assert_eq!(statements(&error), expect);
    live.sql("everything", &format!("SET session_replication_role = replica; {expect}")).await;

    let captured = by_backup(&live, "everything").await.unwrap();
    assert!(!captured.facts.without_passwords, "pg_read_all_data reads pg_authid, too");
    assert_eq!(captured.facts.large_objects, 4);
    let target = target(&spare, "everything");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
}

#[tokio::test]
async fn what_no_grant_lets_a_plain_role_read_is_refused_by_name_and_missing_passwords_are_said() {
    let live = PostgresServer::start();
    live.create(
        "app",
        "CREATE ROLE backup LOGIN PASSWORD 'p'; CREATE TABLE t (a int); GRANT SELECT ON t TO backup; CREATE ROLE owner LOGIN PASSWORD 'x'; \
         ALTER TABLE t OWNER TO owner; CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER far FOREIGN DATA WRAPPER dummy; \
         CREATE USER MAPPING FOR owner SERVER far OPTIONS (password 'hunter2'); \
         CREATE SUBSCRIPTION listens CONNECTION 'host=127.0.0.1 port=1 password=hunter2' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    )
    .await;
    let error = by_backup(&live, "app").await.unwrap_err();
    let text = error.to_string();
    for line in ["\n  subscription listens (only a superuser", "\n  user mapping owner on server far (only a superuser"]
    {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    live.sql("app", "DROP SUBSCRIPTION listens; DROP USER MAPPING FOR owner SERVER far").await;

    let captured = by_backup(&live, "app").await.unwrap();
    assert!(captured.facts.without_passwords);
    let roles = layout::roles(&captured.sink.source()).await.unwrap();
    let owner = roles.iter().find(|role| role.name == "owner").unwrap();
    assert!(owner.login && owner.password_hash.is_none());
}
