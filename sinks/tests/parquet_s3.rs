//! Parquet on a real S3 (MinIO): files in parts, names that are taken, uploads that a killed process left, wrong credentials.
#![cfg(feature = "s3")]

mod common;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use common::Bench;
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::parquet::{ExportConfig, S3Config, keep};
use smartlog_sinks::{CancellationToken, Health, LogSink, SinkError};
use smartlog_test_services::Service;
use std::path::Path;
use std::process::Command;

/// 2026-01-15T00:00:00Z.
const DAY0: i64 = 1_768_435_200_000_000;

struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
    endpoint: String,
}

impl Bucket {
    /// A new bucket for `test`; `None` when tests of services are switched off, or another process ran it.
    async fn new(test: &str) -> Option<Self> {
        let password = Service::require("minio")?.variable("PASSWORD");
        Self::with_secret(test, &password).await
    }

    /// As [`Self::new`], in a process that believes `secret` to be the right one.
    async fn with_secret(test: &str, secret: &str) -> Option<Self> {
        let minio = Service::require("minio")?;
        let (user, password) = (minio.variable("USER"), minio.variable("PASSWORD"));
        if !has_credentials(test, &user, secret) {
            return None;
        }
        let endpoint = minio.address();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
            .credentials_provider(Credentials::new(user, password, None, None, "tests"))
            .region(Region::new(minio.variable("REGION")))
            .endpoint_url(&endpoint)
            .force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let name = format!("smartlog-{:016x}", rand::random::<u64>());
        client.create_bucket().bucket(&name).send().await.expect("a bucket is made");
        Some(Bucket { client, name, endpoint })
    }

    fn config(&self) -> ExportConfig {
        let s3 = S3Config {
            endpoint: Some(self.endpoint.clone()),
            region: Some("eu-west-1".into()),
            path_style: true,
            ..S3Config::default()
        };
        ExportConfig { s3, ..ExportConfig::new(format!("s3://{}/lake", self.name)) }
    }

    fn sink(&self, bench: &Bench) -> Box<dyn LogSink> {
        smartlog_sinks::parquet_sink(&self.config(), &bench.config, Health::new(), CancellationToken::new())
    }

    async fn keys(&self) -> Vec<String> {
        let page = self.client.list_objects_v2().bucket(&self.name).send().await.expect("listed");
        page.contents().iter().filter_map(|object| object.key()).map(str::to_owned).collect()
    }

    async fn uploads(&self) -> usize {
        let page = self.client.list_multipart_uploads().bucket(&self.name).send().await.expect("listed");
        page.uploads().len()
    }

    /// Copies everything into a folder and reads it by pyarrow and DuckDB; gives the offsets, in order.
    async fn offsets(&self) -> Option<Vec<i64>> {
        let python = smartlog_test_services::tool("python")?;
        let folder = tempfile::tempdir().expect("a folder");
        for key in self.keys().await {
            let object = self.client.get_object().bucket(&self.name).key(&key).send().await.expect("read");
            let file = folder.path().join(key);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            let bytes = object.body.collect().await.expect("read").into_bytes();
            std::fs::write(file, bytes).expect("written");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_lake.py");
        let lake = folder.path().join("lake");
        let output = Command::new(python).arg(script).arg(lake).output().expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")[2].as_i64();
        Some(text.lines().map(|line| row(line).expect("an offset")).collect())
    }
}

/// Whether this process has the credentials in its environment, where any program finds them. If not, runs `test` in one
/// that has.
fn has_credentials(test: &str, user: &str, secret: &str) -> bool {
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|ours| ours == wanted);
    if is("AWS_ACCESS_KEY_ID", user) && is("AWS_SECRET_ACCESS_KEY", secret) {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let mut inner = Command::new(program);
    inner
        .args([test, "--exact", "--nocapture"])
        .env("AWS_ACCESS_KEY_ID", user)
        .env("AWS_SECRET_ACCESS_KEY", secret);
    let output = inner.output().expect("this program runs");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{wrong}");
    false
}

fn source() -> TopicPartition {
    TopicPartition::new("logs", 0)
}

/// Logs that do not compress: `bytes` each.
fn batch(first: i64, count: i64, bytes: usize) -> LogBatch {
    let mut batch = LogBatch::new(source(), first);
    for offset in first..first + count {
        let message: String = (0..bytes).map(|_| char::from(rand::random_range(b'!'..b'~'))).collect();
        let (level, host, metadata) = (Level::Error, Some("h"), Some(r#"{"request_id": "a"}"#));
        let timestamp_us = DAY0 + offset;
        let message = message.as_str();
        batch.push(&LogRef { offset, timestamp_us, level, service: "s", host, message, metadata, shape: 0 });
    }
    batch.next_offset = first + count;
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_parts_is_read_back_and_nothing_is_left_behind() {
    let Some(bucket) = Bucket::new("a_file_in_parts_is_read_back_and_nothing_is_left_behind").await else {
        return;
    };
    let bench = Bench::sqlite().await;
    let mut sink = bucket.sink(&bench);
    sink.resume(&[source()]).await.expect("claimed");
    for first in (0..40_000).step_by(1_000) {
        sink.write(&[batch(first, 1_000, 1_000)], DAY0).await.expect("written");
    }
    assert_eq!(bucket.keys().await, [""; 0], "a file is written once it is whole");
    sink.finish().await.expect("finished");
    let bytes = bench.number("SELECT bytes FROM export_files").await;
    assert!(bytes > 16 << 20, "{bytes} bytes go in one request");
    assert!(bench.number("SELECT puts FROM export_usage").await > 5, "parts are counted");
    assert_eq!(bucket.uploads().await, 0);
    let Some(offsets) = bucket.offsets().await else { return };
    assert!(offsets.into_iter().eq(0..40_000), "a gap or a double");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_left_is_finished_and_its_uploads_are_aborted() {
    let Some(bucket) =
        Bucket::new("what_a_killed_process_left_is_finished_and_its_uploads_are_aborted").await
    else {
        return;
    };
    let bench = Bench::sqlite().await;
    // As left by a kill between intent and objects: the ledger has the intent, the bucket an upload that nobody finishes.
    let mut first = bucket.sink(&bench);
    first.resume(&[source()]).await.expect("claimed");
    first.write(&[batch(0, 100, 50)], DAY0).await.expect("written");
    first.finish().await.expect("finished");
    let name = bench.query("SELECT name FROM export_files").await[0][0].clone().expect("a name");
    let key = format!("lake/logs/date=2026-01-15/{name}");
    bucket.client.delete_object().bucket(&bucket.name).key(&key).send().await.expect("deleted");
    bench.execute("UPDATE export_files SET status = 'intended'").await;
    bench.execute("UPDATE sink_positions SET next_offset = NULL").await;
    let upload =
        bucket.client.create_multipart_upload().bucket(&bucket.name).key(&key).send().await.expect("begun");
    let upload_id = upload.upload_id().expect("an id").to_owned();
    let part = bucket.client.upload_part().bucket(&bucket.name).key(&key).upload_id(upload_id).part_number(1);
    part.body(ByteStream::from_static(b"half")).send().await.expect("sent");
    assert_eq!(bucket.uploads().await, 1);

    let mut second = bucket.sink(&bench);
    assert!(second.resume(&[source()]).await.expect("claimed").is_empty(), "its objects are missing");
    assert_eq!(bucket.uploads().await, 0, "what nobody finishes is aborted");
    // The logs are other ones now, as after a change of the settings of parsing: the range ends where it ended.
    second.write(&[batch(0, 150, 50)], DAY0).await.expect("written");
    second.finish().await.expect("finished");
    let now = CancellationToken::new();
    now.cancel();
    keep(bucket.config(), bench.config.clone(), now, CancellationToken::new()).await;
    let Some(offsets) = bucket.offsets().await else { return };
    assert!(offsets.into_iter().eq(0..150), "a gap or a double");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_not_there_is_told_at_the_start() {
    let Some(bucket) = Bucket::new("a_bucket_that_is_not_there_is_told_at_the_start").await else { return };
    let bench = Bench::sqlite().await;
    let missing = ExportConfig { target: format!("s3://{}-not/x", bucket.name), ..bucket.config() };
    let mut sink =
        smartlog_sinks::parquet_sink(&missing, &bench.config, Health::new(), CancellationToken::new());
    let error = sink.resume(&[source()]).await.expect_err("no such bucket");
    assert!(matches!(error, SinkError::Fatal(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("NoSuchBucket") && told.contains("make the bucket"), "{told}");
    let password = Service::require("minio").expect("it is there").variable("PASSWORD");
    assert!(!format!("{error} {error:?}").contains(&password), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_told_at_the_start_and_not_shown() {
    let secret = "not-the-secret-of-this-server";
    let Some(bucket) = Bucket::with_secret("a_wrong_secret_is_told_at_the_start_and_not_shown", secret).await
    else {
        return;
    };
    let bench = Bench::sqlite().await;
    let error = bucket.sink(&bench).resume(&[source()]).await.expect_err("signed by a wrong secret");
    assert!(matches!(error, SinkError::Fatal(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("SignatureDoesNotMatch") && told.contains("check the credentials"), "{told}");
    assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    assert_eq!(bucket.keys().await, [""; 0]);
}

/// Hangs up on everybody until it is told where to lead them.
async fn door(mut leads_to: tokio::sync::watch::Receiver<Option<String>>, listener: tokio::net::TcpListener) {
    loop {
        let (mut guest, _) = listener.accept().await.expect("somebody comes");
        let Some(address) = leads_to.borrow_and_update().clone() else { continue };
        tokio::spawn(async move {
            let mut service = tokio::net::TcpStream::connect(address).await.expect("the service is there");
            let _ = tokio::io::copy_bidirectional(&mut guest, &mut service).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_at_the_start_is_waited_for() {
    let Some(bucket) = Bucket::new("a_service_that_is_away_at_the_start_is_waited_for").await else { return };
    let bench = Bench::sqlite().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (lead, leads_to) = tokio::sync::watch::channel(None);
    tokio::spawn(door(leads_to, listener));
    let mut config = bucket.config();
    config.s3.endpoint = Some(endpoint);
    let health = Health::new();
    let mut sink =
        smartlog_sinks::parquet_sink(&config, &bench.config, health.clone(), CancellationToken::new());
    let opening = tokio::spawn(async move { sink.resume(&[source()]).await.map(drop) });
    while health.retries() == 0 && !opening.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!opening.is_finished(), "it gave up: {:?}", opening.await);
    lead.send_replace(bucket.endpoint.strip_prefix("http://").map(str::to_owned));
    opening.await.expect("no panic").expect("it goes on by itself");
    assert!(matches!(health.state(), smartlog_sinks::State::Ok), "{:?}", health.state());
}
