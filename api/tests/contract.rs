//! What `/openapi.json` promises, asked for by a program that knows nothing else of the API: `schemathesis`, all checks on.

mod common;

use common::{Bench, Server};
use smartlog_api::{Scope, Token};
use smartlog_test_services::Service;
use std::process::Command;
use tokio::task::block_in_place;

smartlog_test_services::on_both_stores!(every_answer_is_as_the_document_says);

/// Never ends by itself, which is not what the checker waits for; tests/serving.rs listens to it.
const STREAM: &str = "/api/v1/anomalies/stream";

async fn every_answer_is_as_the_document_says(bench: Bench) {
    let Some(checker) = Service::require("schemathesis") else { return };
    bench.seed_pipeline().await;
    bench.seed_windows().await;
    bench.seed_hours(30).await;
    bench.seed_logs(400).await;
    bench.seed_patterns(30).await;
    bench.seed_models().await;
    bench.seed_dead_letters(20).await;
    bench.seed_anomalies(200).await;
    let (token, secret) = Token::generate("contract", &Scope::ALL);
    let mut config = bench.config();
    config.tokens.push(token);
    let server = Server::start(bench, config).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = block_in_place(|| {
        Command::new(checker.address())
            .args(["run", &format!("http://{}/openapi.json", server.address), "--exclude-path", STREAM])
            .args(["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-time", "35"])
            .args(["--max-examples", "20", "--continue-on-failure", "--request-timeout", "10", "--no-color"])
            .args(["--header", &format!("Authorization: Bearer {secret}")])
            .current_dir(folder.path())
            .output()
            .expect("the checker starts")
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // Nothing was left out unseen: every route was asked, but for the stream and the document that the checker read.
    assert!(said.contains("No issues found"), "{said}");
    let document = server.json("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    let asked: usize = paths.values().map(|path| path.as_object().expect("methods").len()).sum();
    let asked = asked - 2;
    assert!(said.contains(&format!("Tested: {asked}")), "{asked} routes: {said}");
    server.end().await;
}
