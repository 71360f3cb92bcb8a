//! The restore's functions one by one: run twice, run after a kill, run into something that is in the way.

use warmspare::error::Class;
use warmspare::observe::Progress;
use warmspare::restore::steps::database::{
    Origin, Sessions, Standing, Target, drop_replaced, load, prepare, replaced_before, standing, swap,
};

use super::{POINT, bring_back, differences, take, target, words};
use crate::support::postgres::PostgresServer;

const SMALL: &str = "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000);";

#[tokio::test]
async fn every_function_may_be_run_twice() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", SMALL).await;
    let captured = take(&live, "app").await.unwrap();
    let (source, target) = (captured.sink.source(), target(&spare, "app"));
    prepare(&target, &source, &captured.facts).await.unwrap();
    prepare(&target, &source, &captured.facts).await.unwrap();
    assert!(!load(&target, &source, &Progress::silent()).await.unwrap().already);
    assert!(load(&target, &source, &Progress::silent()).await.unwrap().already);
    assert!(!swap(&target, Sessions::Refuse).await.unwrap().already);
    assert!(swap(&target, Sessions::Refuse).await.unwrap().already);
    assert_eq!(words(&differences(&target, &captured).await), "");
}

#[tokio::test]
async fn a_load_that_was_killed_half_way_starts_over_and_one_damaged_stream_stops_it() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", SMALL).await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    let mut damaged = captured.sink.source();
    damaged.corrupt(&warmspare::stream::StreamName::new(warmspare::stream::StreamKind::Table, "\"public\".\"t\""), 100);
    prepare(&target, &damaged, &captured.facts).await.unwrap();
    let error = load(&target, &damaged, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("table \"public\".\"t\""), "{error}");
    let error = swap(&target, Sessions::End).await.unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{error}");
    assert!(error.to_string().contains("is not loaded yet"), "{error}");
    assert_eq!(standing(&target).await.unwrap(), Standing::Absent);
    assert!(!load(&target, &captured.sink.source(), &Progress::silent()).await.unwrap().already);
    assert_eq!(words(&differences(&target, &captured).await), "");
}

#[tokio::test]
async fn a_restore_target_in_use_is_refused_with_the_names_of_its_sessions() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", SMALL).await;
    spare.create("app", "CREATE TABLE precious (a int); INSERT INTO precious VALUES (42)").await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    let Standing::Foreign { description } = standing(&target).await.unwrap() else { panic!("not ours") };
    assert!(description.starts_with("owned by warmspare, "), "{description}");
    bring_back(&target, &captured).await;

    let user = spare.session("app").await;
    user.execute("", "SET application_name = 'builder-api'").await.unwrap();
    let error = swap(&target, Sessions::Refuse).await.unwrap_err();
    let expect =
        format!("database app is in use by 1 sessions:\n  pid {} builder-api as warmspare from 127.0.0.1", user.pid());
    assert_eq!((error.to_string(), error.class()), (expect, Class::Refused));
    assert!(error.next_step().unwrap().starts_with("Stop the application at this site"));
    user.execute("", "INSERT INTO public.precious VALUES (43)")
        .await
        .expect("a refused swap leaves the application alone");
    assert_eq!(spare.value("app", "SELECT count(*)::text FROM public.precious").await, "2");

    let swapped = swap(&target, Sessions::End).await.unwrap();
    let old = swapped.kept.unwrap();
    assert_eq!(old, format!("app__before_{POINT}"));
    assert!(user.execute("", "SELECT 1").await.is_err(), "the session was ended");
    assert_eq!(spare.value("app", "SELECT count(*)::text FROM public.t").await, "1000");
    // The same point once more: the one replaced before is not in the way.
    bring_back(&target, &captured).await;
    let again = swap(&target, Sessions::End).await.unwrap().kept.unwrap();
    assert_eq!(again, format!("app__before_{POINT}_2"));
    spare.sql("postgres", &format!("ALTER DATABASE \"{old}\" ALLOW_CONNECTIONS true")).await;
    assert_eq!(
        spare.value(&old, "SELECT sum(a)::text FROM public.precious").await,
        "85",
        "the replaced database is whole"
    );
    let next = target.made_by(Origin { run: "next".into(), ..Origin::default() });
    assert_eq!(replaced_before(&next).await.unwrap(), [again], "nobody's but one that a restore made is ever dropped");
    let names = [old.as_str(), "app"].map(str::to_owned);
    drop_replaced(&next, &names).await.unwrap();
    assert_eq!(
        spare.value(&old, "SELECT count(*)::text FROM public.precious").await,
        "2",
        "asked for, and still there"
    );
}

#[tokio::test]
async fn a_foreign_database_under_the_scratch_name_is_not_dropped() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", SMALL).await;
    let captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    spare.create(&target.fresh(), "CREATE TABLE mine (a int)").await;
    let error = prepare(&target, &captured.sink.source(), &captured.facts).await.unwrap_err();
    assert!(error.to_string().contains("was not made by warmspare"), "{error}");
    spare.sql(&target.fresh(), "DROP TABLE public.mine").await;
    prepare(&target, &captured.sink.source(), &captured.facts)
        .await
        .expect("an empty one is what a kill leaves behind");
}

#[tokio::test]
async fn a_missing_extension_or_an_older_server_is_told_before_anything_is_changed() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.create("app", "CREATE ROLE fresh_role; CREATE TABLE t (a int); ALTER TABLE t OWNER TO fresh_role").await;
    let mut captured = take(&live, "app").await.unwrap();
    let target = target(&spare, "app");
    let mut source = captured.sink.source();
    let name = warmspare::capture::layout::catalog("properties");
    let text = String::from_utf8(source.bytes(&name).unwrap().to_vec()).unwrap();
    source.put(name, text.replace("plpgsql", "postgis"));
    let error = prepare(&target, &source, &captured.facts).await.unwrap_err();
    assert!(error.to_string().ends_with("the server lacks the extensions postgis that the snapshot needs"), "{error}");
    captured.facts.server_version_num = 170_002;
    let error = prepare(&target, &captured.sink.source(), &captured.facts).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the server is PostgreSQL 15, but the snapshot is of PostgreSQL 17, which is newer"),
        "{error}"
    );
    assert_eq!(spare.value("postgres", "SELECT count(*)::text FROM pg_roles WHERE rolname = 'fresh_role'").await, "0");
}

#[tokio::test]
async fn a_long_name_still_gets_its_scratch_and_its_kept_database() {
    let spare = PostgresServer::start();
    let name = format!("{}-database", "ä".repeat(26));
    spare.create(&name, SMALL).await;
    let captured = take(&spare, &name).await.unwrap();
    let target = Target::new(&spare.address(&name), spare.password(), None, 3, POINT, 1).unwrap();
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
    let old = swap(&target, Sessions::Refuse).await.unwrap().kept.unwrap();
    assert!(old.len() <= 63 && old.ends_with(&format!("__before_{POINT}")), "{old}");
    assert_eq!(standing(&target).await.unwrap(), Standing::Ours { term: 3, point: POINT.into() });
}

#[tokio::test]
async fn the_database_called_postgres_is_swapped_too_and_a_monitor_in_the_fresh_one_is_in_nobodys_way() {
    let (live, spare) = (PostgresServer::start(), PostgresServer::start());
    live.sql("postgres", SMALL).await;
    let captured = take(&live, "postgres").await.unwrap();
    let target = target(&spare, "postgres");
    bring_back(&target, &captured).await;
    let _monitor = spare.session(&target.fresh()).await;
    let swapped = swap(&target, Sessions::Refuse).await.unwrap();
    assert_eq!(swapped.kept.unwrap(), format!("postgres__before_{POINT}"));
    assert_eq!(spare.value("postgres", "SELECT count(*)::text FROM public.t").await, "1000");
}
