//! From one major version to another: what was captured on the older server is proven on the newer one.

use warmspare::restore::steps::database::{Sessions, promote_roles, swap};

use super::{bring_back, differences, fixture, take, target, words};
use crate::support::postgres::PostgresServer;

/// The further servers are built without ICU.
const ICU: &str = "CREATE COLLATION german (provider = icu, locale = 'de');\n";

/// Captures the registry with everything easily lost on one server, restores it on another, proves and swaps it.
async fn comes_back(from: u32, to: u32) {
    let (live, spare) = (PostgresServer::of(from), PostgresServer::of(to));
    live.create("builder", fixture::REGISTRY).await;
    live.sql("postgres", &fixture::AROUND.replace("NAME", "builder")).await;
    live.sql("builder", &fixture::ODD.replace(ICU, "")).await;
    let captured = take(&live, "builder").await.unwrap();
    let target = target(&spare, "builder");
    bring_back(&target, &captured).await;
    assert_eq!(words(&differences(&target, &captured).await), "");
    swap(&target, Sessions::Refuse).await.unwrap();
    promote_roles(&target, &captured.sink.source()).await.unwrap();
}

#[tokio::test]
async fn a_registry_of_18_comes_back_on_18() {
    comes_back(18, 18).await;
}
