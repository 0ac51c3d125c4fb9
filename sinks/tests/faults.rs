//! What must hold when PostgreSQL, the network or a predecessor fails: nothing lost, nothing twice.
//!
//! Most of it can only happen to a server, so these run against PostgreSQL alone; killing SQLite's process is left to
//! the recovery program, for a test cannot kill itself.

mod common;

use common::{Bench, PATIENCE, connect};
use smartlog_schema::commit::{ClockState, EpochCommit, HourlyDelta};
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_sinks::{CancellationToken, Health, SinkError, State, StateStore, StoreConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const T0: i64 = 1_768_471_200;
const US: i64 = 1_000_000;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("logs", partition)
}

fn batch(partition: i32, first: i64, next: i64) -> LogBatch {
    let mut batch = LogBatch::new(tp(partition), first);
    for offset in first..next {
        batch.push(&LogRef {
            offset,
            timestamp_us: T0 * US + offset,
            level: Level::Info,
            service: "a",
            host: None,
            message: "a message of some length, so that a COPY takes more than one packet",
            metadata: Some(r#"{"k": 1}"#),
            shape: 0,
        });
    }
    batch.next_offset = next;
    batch
}

/// Adds one log at a given offset: wrong by exactly one wherever a commit is lost or doubled.
fn step(offset: i64) -> EpochCommit {
    EpochCommit {
        epoch: offset as u64,
        positions: Positions::from([(tp(0), offset + 1)]),
        clock: ClockState { clock_us: (T0 + offset) * US, ..ClockState::default() },
        seconds: vec![("a".into(), T0, Sums { logs: 1, errors: 0, message_chars: 1 })],
        hourly: vec![HourlyDelta { hour: T0, service: "a".into(), logs: 1, errors: 0 }],
        ..EpochCommit::default()
    }
}

/// Asserts that `logs` holds the offsets `0..next` of the partition, each once.
async fn assert_each_once(bench: &Bench, partition: i32, next: i64) {
    let rows = bench
        .query(&format!(
            "SELECT count(*), count(DISTINCT kafka_offset), coalesce(min(kafka_offset), 0), coalesce(max(kafka_offset), -1)
             FROM logs WHERE kafka_partition = {partition}"
        ))
        .await;
    let expected = [next, next, 0, next - 1].map(|n| Some(n.to_string()));
    assert_eq!(rows, [expected], "count, distinct, least, greatest");
    let sql =
        format!("SELECT next_offset FROM sink_positions WHERE sink = 'logs' AND partition = {partition}");
    assert_eq!(bench.number(&sql).await, next);
}

async fn assert_summed_up(bench: &Bench, commits: i64) {
    assert_eq!(bench.number("SELECT logs FROM window_state").await, commits);
    assert_eq!(bench.number("SELECT log_count FROM hourly_metrics").await, commits);
    assert_eq!(
        bench.number("SELECT next_offset FROM sink_positions WHERE sink = 'aggregates'").await,
        commits
    );
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(2 * PATIENCE, test).await.expect("the test ends in time")
}

/// Makes each COMMIT that touches `table` take a while: what is killed meanwhile becomes a zombie.
async fn slow_commits(bench: &Bench, table: &str, seconds: f64) {
    bench
        .execute(&format!(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT OR UPDATE ON {table}
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.sink = 'logs') EXECUTE FUNCTION dawdle()"
        ))
        .await;
}

/// Kills the server's side of every session of the product in this database.
async fn kill_sessions(client: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'smartlog'";
    client.query_one(sql, &[]).await.expect("kills").get(0)
}

/// Waits until a COMMIT of the product dawdles in its trigger. Other transactions of the product, such as the one that
/// makes a day's partition, commit as well: only one that sleeps holds what the test is about.
async fn wait_for_slow_commit(client: &tokio_postgres::Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'smartlog' AND state = 'active'
                 AND query LIKE 'COMMIT%' AND wait_event = 'PgSleep'";
    while client.query_one(sql, &[]).await.expect("looks").get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The process is killed while its COMMIT runs in the server: the successor must wait for it, not overtake it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_commit_of_logs_is_waited_for() {
    let Some(bench) = Bench::postgres().await else { return };
    smartlog_sinks::migrate(&bench.config).await.expect("migrates");
    slow_commits(&bench, "sink_positions", 0.3).await;
    let client = connect(&bench.config.url).await;
    in_time(async {
        let mut next = 0;
        for _ in 0..5 {
            let mut victim = bench.logs();
            let found = victim.resume(&[tp(0)]).await.expect("resumes").get(&tp(0)).copied().unwrap_or(0);
            assert_eq!(found, next, "the zombie's rows and its position came together");
            let writing = tokio::spawn(async move { victim.write(&[batch(0, found, found + 100)], 0).await });
            wait_for_slow_commit(&client).await;
            // Dropped in the midst of its COMMIT, as by kill -9: the server goes on with it.
            writing.abort();
            next += 100;
        }
        let mut last = bench.logs();
        assert_eq!(last.resume(&[tp(0)]).await.expect("resumes")[&tp(0)], next);
    })
    .await;
    assert_each_once(&bench, 0, 500).await;
    bench.drop_it().await;
}

/// As above, for the aggregates, whose successor takes the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_commit_of_aggregates_is_waited_for() {
    let Some(bench) = Bench::postgres().await else { return };
    smartlog_sinks::migrate(&bench.config).await.expect("migrates");
    bench
        .execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT OR UPDATE ON window_state
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
        )
        .await;
    let client = connect(&bench.config.url).await;
    in_time(async {
        for round in 0..5 {
            let mut victim = bench.state();
            let found = victim.open().await.expect("opens").positions.get(&tp(0)).copied().unwrap_or(0);
            assert_eq!(found, round);
            let committing = tokio::spawn(async move { victim.commit(&step(found)).await });
            wait_for_slow_commit(&client).await;
            committing.abort();
        }
        assert_eq!(bench.state().open().await.expect("opens").positions[&tp(0)], 5);
    })
    .await;
    assert_summed_up(&bench, 5).await;
    bench.drop_it().await;
}

/// The server's sessions are killed again and again, in the midst of COPY and COMMIT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_sessions_lose_and_double_nothing() {
    const KILLS: u64 = 40;
    let Some(bench) = Bench::postgres().await else { return };
    let health = Health::new();
    let mut store = bench.state_with(health.clone(), CancellationToken::new());
    let mut sink = bench.logs_with(health.clone(), CancellationToken::new());
    let (commits, writes) = in_time(async {
        store.open().await.expect("opens");
        sink.resume(&[tp(0)]).await.expect("resumes");
        let stop = AtomicBool::new(false);
        let killer = async {
            let client = connect(&bench.config.url).await;
            while health.retries() < KILLS {
                kill_sessions(&client).await;
                tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
            }
            stop.store(true, Ordering::SeqCst);
        };
        let aggregates = async {
            let mut commits = 0;
            while !stop.load(Ordering::SeqCst) {
                store.commit(&step(commits)).await.expect("commits");
                commits += 1;
            }
            commits
        };
        let logs = async {
            let mut writes = 0;
            while !stop.load(Ordering::SeqCst) {
                sink.write(&[batch(0, writes * 2_000, writes * 2_000 + 2_000)], 0).await.expect("writes");
                writes += 1;
            }
            writes
        };
        let (_, commits, writes) = tokio::join!(killer, aggregates, logs);
        (commits, writes)
    })
    .await;
    println!("{commits} commits and {writes} writes through {} attempts made again", health.retries());
    assert_each_once(&bench, 0, 2_000 * writes).await;
    assert_summed_up(&bench, commits).await;
    bench.drop_it().await;
}

/// What a [`Proxy`] does to an answer of the server to COMMIT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The answer is lost with the connection: the commit went through.
    Answer,
    /// The request is lost with the connection: it did not.
    Request,
    /// Nothing comes through any longer, and nobody says so.
    Silence,
}

/// Stands between product and server and cuts the connection at its next COMMIT, once for each permission.
struct Proxy {
    port: u16,
    armed: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: String, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let armed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&armed);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server");
                tokio::spawn(relay(client, server, Arc::clone(&flag), cut));
            }
        });
        Proxy { port, armed }
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn went_off(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>, cut: Cut) {
    let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                let is_commit = from_client[..length].windows(7).any(|w| w == b"COMMIT\0");
                let cuts = is_commit && armed.swap(false, Ordering::SeqCst);
                if cuts && cut == Cut::Request {
                    return;
                }
                if server.write_all(&from_client[..length]).await.is_err() { return }
                if cuts {
                    // The server has answered: it is done.
                    let _ = server.read(&mut from_server).await;
                    if cut == Cut::Silence {
                        tokio::time::sleep(2 * PATIENCE).await;
                    }
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&from_server[..length]).await.is_err() { return }
            }
        }
    }
}

/// The same store, seen through a proxy.
async fn behind_proxy(bench: &Bench, cut: Cut) -> (StoreConfig, Proxy) {
    let url = &bench.config.url;
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (server, database) = rest.split_once('/').expect("a path");
    let (user, host) = server.rsplit_once('@').expect("a user");
    let proxy = Proxy::start(host.to_owned(), cut).await;
    let mut config = bench.config.clone();
    config.url = format!("{scheme}://{user}@127.0.0.1:{}/{database}", proxy.port);
    (config, proxy)
}

async fn survives_a_cut_at_commit(cut: Cut) {
    let Some(bench) = Bench::postgres().await else { return };
    let (mut config, proxy) = behind_proxy(&bench, cut).await;
    if cut == Cut::Silence {
        config.attempt_timeout = Duration::from_millis(1_500);
    }
    let open =
        |health| (smartlog_sinks::state_store(&config, health, CancellationToken::new())).expect("a store");
    let health = Health::new();
    in_time(async {
        let mut store = open(health.clone());
        store.open().await.expect("opens");
        let mut sink =
            smartlog_sinks::log_sink(&config, health.clone(), CancellationToken::new()).expect("a sink");
        sink.resume(&[tp(0)]).await.expect("resumes");
        for round in 0..4 {
            proxy.arm();
            store.commit(&step(round)).await.expect("commits");
            assert!(proxy.went_off(), "the proxy cut the aggregates' commit");
            proxy.arm();
            sink.write(&[batch(0, round * 100, round * 100 + 100)], 0).await.expect("writes");
            assert!(proxy.went_off(), "the proxy cut the logs' commit");
        }
    })
    .await;
    assert!(health.retries() >= 8, "{}", health.retries());
    assert_eq!(health.state(), State::Ok);
    assert_each_once(&bench, 0, 400).await;
    assert_summed_up(&bench, 4).await;
    bench.drop_it().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_counts_once() {
    survives_a_cut_at_commit(Cut::Answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_request_is_lost_counts_once() {
    survives_a_cut_at_commit(Cut::Request).await;
}

/// The network swallows everything: the attempt is given up, and the lease that the lost session still holds in the
/// server is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_is_given_up_on() {
    survives_a_cut_at_commit(Cut::Silence).await;
}

/// While the connection is away another set takes over: the first must not go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_lost_its_lease_to_another_is_fenced() {
    let Some(bench) = Bench::postgres().await else { return };
    let mut first = bench.state();
    in_time(async {
        first.open().await.expect("opens");
        first.commit(&step(0)).await.expect("commits");
        let client = connect(&bench.config.url).await;
        kill_sessions(&client).await;
        let mut second = bench.state();
        assert_eq!(second.open().await.expect("takes over").positions[&tp(0)], 1);
        let racing = tokio::spawn(async move { first.commit(&step(1)).await });
        second.commit(&step(1)).await.expect("commits");
        drop(second);
        let error = racing.await.expect("no panic").expect_err("is fenced");
        assert!(matches!(error, SinkError::Fenced { .. }), "{error}");
    })
    .await;
    assert_summed_up(&bench, 2).await;
    bench.drop_it().await;
}

/// A server that is not there is waited for, and a shutdown does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_waited_for_but_not_by_a_shutdown() {
    let port = smartlog_test_services::free_port();
    let config = StoreConfig::new(format!("postgres://me:s3cr3t-canary@127.0.0.1:{port}/logs"));
    let (health, cancel) = (Health::new(), CancellationToken::new());
    let mut store = smartlog_sinks::state_store(&config, health.clone(), cancel.clone()).expect("a store");
    let opening = tokio::spawn(async move { store.open().await });
    in_time(async {
        while health.retries() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let State::Retrying { error, .. } = health.state() else { panic!("{:?}", health.state()) };
        assert!(error.contains("Connection refused") && error.contains("waiting"), "{error}");
        assert!(!error.contains("s3cr3t-canary"), "{error}");
        assert!(!opening.is_finished());
        cancel.cancel();
        let error = opening.await.expect("no panic").expect_err("gives up");
        assert!(error.is_transient(), "{error}");
    })
    .await;
}

/// What a person must mend is said at once, with what to do, and without the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_cannot_mend_ends_the_start() {
    let Some(bench) = Bench::postgres().await else { return };
    let open = |url: String| async move {
        let config = StoreConfig::new(url);
        let store = smartlog_sinks::state_store(&config, Health::new(), CancellationToken::new());
        store.expect("a store").open().await.expect_err("fails").to_string()
    };
    in_time(async {
        let slash = bench.config.url.rfind('/').expect("a path");
        let error = open(format!("{}/no_such_database", &bench.config.url[..slash])).await;
        assert!(error.contains("no_such_database") && error.contains("create the database"), "{error}");
        let error = open(format!("{}?options=-csearch_path%3Dno_such_schema", bench.config.url)).await;
        assert!(error.contains("cannot bring the tables up to date"), "{error}");
        let host = bench.config.url[..slash].rsplit_once('@').expect("a user").1.to_owned();
        let error = open(format!("postgres://no_such_user:s3cr3t-canary@{host}/postgres")).await;
        assert!(error.contains("no_such_user") && error.contains("set the right user"), "{error}");
        assert!(!error.contains("s3cr3t-canary"), "{error}");
        if !cfg!(feature = "tls") {
            let error = open(format!("{}?sslmode=require", bench.config.url)).await;
            assert!(error.contains("--features tls"), "{error}");
        }
    })
    .await;
    bench.drop_it().await;
}

/// Two pipelines in schemas of their own do not meet, whatever their names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_keep_pipelines_apart() {
    let Some(bench) = Bench::postgres().await else { return };
    bench.execute("CREATE SCHEMA one; CREATE SCHEMA two").await;
    let store = |schema: &str| -> Box<dyn StateStore> {
        let config = StoreConfig::new(format!("{}?options=-csearch_path%3D{schema}", bench.config.url));
        smartlog_sinks::state_store(&config, Health::new(), CancellationToken::new()).expect("a store")
    };
    in_time(async {
        let (mut one, mut two) = (store("one"), store("two"));
        one.open().await.expect("opens");
        two.open().await.expect("opens beside it");
        one.commit(&step(0)).await.expect("commits");
        two.commit(&step(0)).await.expect("commits");
    })
    .await;
    for schema in ["one", "two"] {
        assert_eq!(bench.number(&format!("SELECT logs FROM {schema}.window_state")).await, 1);
    }
    bench.drop_it().await;
}
