//! TLS towards a real server, with libpq's meaning of `sslmode`.
//!
//! The server's certificate names `localhost`, and not 127.0.0.1.
#![cfg(feature = "tls")]

mod common;

use common::Bench;
use smartlog_sinks::{CancellationToken, Health, SinkError, StoreConfig};
use smartlog_test_services::Service;
use smartlog_test_services::database::offer_tls;

/// Opens the store under these options, and tells whether the session was encrypted.
async fn opens(bench: &Bench, host: &str, options: &str) -> Result<(), SinkError> {
    let url = bench.config.url.replace("127.0.0.1", host).replace("localhost", host);
    let config = StoreConfig::new(format!("{url}?{options}"));
    let mut store = smartlog_sinks::state_store(&config, Health::new(), CancellationToken::new())?;
    store.open().await.map(drop)?;
    let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE datname = current_database() AND application_name = 'smartlog' AND ssl";
    assert!(bench.number(sql).await > 0, "{options}: the session is encrypted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_means_what_it_means_elsewhere() {
    let Some(bench) = Bench::postgres().await else { return };
    let ca = Service::require("postgres").expect("it is there").variable("CA");
    offer_tls(true).await;
    for options in ["sslmode=prefer", "sslmode=require"] {
        opens(&bench, "127.0.0.1", options).await.expect(options);
    }
    let unknown = opens(&bench, "localhost", "sslmode=verify-full").await.expect_err("an unknown authority");
    assert!(matches!(&unknown, SinkError::Fatal(_)), "{unknown}");
    assert!(unknown.to_string().contains("sslrootcert"), "{unknown}");
    opens(&bench, "127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}"))
        .await
        .expect("a known authority");
    opens(&bench, "localhost", &format!("sslmode=verify-full&sslrootcert={ca}"))
        .await
        .expect("the right name");
    let wrong = opens(&bench, "127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}")).await;
    assert!(matches!(wrong, Err(SinkError::Fatal(_))), "another name: {wrong:?}");
    let missing = opens(&bench, "localhost", "sslmode=verify-full&sslrootcert=/no/such/file").await;
    assert!(missing.expect_err("no file").to_string().contains("readable PEM file"));
    offer_tls(false).await;
    let refused = opens(&bench, "localhost", "sslmode=require").await.expect_err("a server without TLS");
    assert!(refused.to_string().contains("sslmode"), "{refused}");
    bench.drop_it().await;
}
