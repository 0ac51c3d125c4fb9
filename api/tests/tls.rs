//! The API's sessions with PostgreSQL are encrypted as the store's URL says, with libpq's meaning of `sslmode`.
//!
//! The server's certificate names `localhost`, and not 127.0.0.1.
#![cfg(feature = "tls")]

mod common;

use common::{Bench, Server};
use smartlog_api::{Api, StoreUrl};
use smartlog_test_services::Service;
use smartlog_test_services::database::offer_tls;
use std::sync::Arc;

/// The store under these options.
fn url(bench: &Bench, host: &str, options: &str) -> StoreUrl {
    let StoreUrl::Postgres(url) = &bench.url else { panic!("it is PostgreSQL") };
    StoreUrl::Postgres(format!("{}?{options}", url.replace("127.0.0.1", host)))
}

/// What `/health` says of the store under these options, and how many sessions of the API are encrypted.
async fn asked(bench: &Bench, host: &str, options: &str) -> (serde_json::Value, i64) {
    let mut config = bench.config();
    config.store = url(bench, host, options);
    // What is said and what is read go by pools of their own.
    config.feedback_store = Some(config.store.clone());
    let server = Server::start(bench.clone(), config).await;
    let health = server.get("/health").await.json();
    let encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
                     where datname = current_database() and application_name = 'smartlog-api' and ssl";
    let encrypted = bench.numbers(encrypted).await[0];
    if health["dependencies"]["store"]["status"] == "ok" {
        let said = server.post("/api/v1/anomalies/1/feedback", &[], r#"{"verdict": "expected"}"#).await;
        assert_eq!(said.status, 200, "{options}: {}", said.text());
    }
    server.stop().await;
    (health, encrypted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_means_what_it_means_elsewhere() {
    let Some(bench) = Bench::postgres().await else { return };
    let ca = Service::require("postgres").expect("it is there").variable("CA");
    bench.seed_pipeline().await;
    bench.seed_anomalies(1).await;
    offer_tls(true).await;
    for (host, options) in [
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=require".into()),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
    ] {
        let (health, encrypted) = asked(&bench, host, &options).await;
        assert_eq!(health["dependencies"]["store"]["status"], "ok", "{options}: {health}");
        assert!(encrypted > 0, "{options}: its sessions are encrypted");
    }
    assert_eq!(asked(&bench, "127.0.0.1", "sslmode=disable").await.1, 0);
    for (host, options) in [
        ("localhost", "sslmode=verify-full".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")),
    ] {
        let (health, encrypted) = asked(&bench, host, &options).await;
        assert_eq!(
            (&health["dependencies"]["store"]["status"], encrypted),
            (&"down".into(), 0),
            "{options}: {health}"
        );
    }
    offer_tls(false).await;
    let (health, _) = asked(&bench, "localhost", "sslmode=require").await;
    assert_eq!(health["dependencies"]["store"]["status"], "down", "{health}");
    bench.database().remove().await;
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_said_at_the_start() {
    let mut config = Bench::empty_sqlite().config();
    config.store = StoreUrl::Postgres("postgres://me:canary@localhost/logs?sslrootcert=/no/such/file".into());
    let metrics = Arc::new(|_: &mut String| Ok(()));
    let error = Api::bind(config, metrics).await.err().expect("no start").to_string();
    assert!(error.contains("readable PEM file") && !error.contains("canary"), "{error}");
}
