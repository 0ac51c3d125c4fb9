//! A PostgreSQL database of its own for each test, and each test on both stores.

use crate::Service;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds every wait of a test: a hang is a failure with a name.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An empty database on the server of the tests. A failed test leaves it behind to be looked at.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…/NAME`.
    pub url: String,
    name: String,
    admin: String,
}

impl Database {
    /// A new one; `None` when tests of services are switched off.
    pub async fn create() -> Option<Self> {
        let database = Self::reserve()?;
        database.make().await;
        Some(database)
    }

    /// Its name and URL; it does not exist before [`Database::make`].
    pub fn reserve() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let admin = Service::require("postgres")?.address();
        let name = format!("smartlog_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (server, options) = admin.split_once('?').map_or((admin.as_str(), ""), |(s, o)| (s, o));
        let slash = server.rfind('/').expect("a URL with a path");
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        Some(Database { url: format!("{}/{name}{options}", &server[..slash]), name, admin })
    }

    /// Creates what [`Database::reserve`] named.
    pub async fn make(&self) {
        let sql = format!("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy", self.name);
        connect(&self.admin).await.batch_execute(&sql).await.expect("a database is made");
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it, whoever is still connected.
    pub async fn remove(&self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        connect(&self.admin).await.batch_execute(&sql).await.expect("the database goes");
    }
}

/// Has the server of the tests offer TLS to new connections, or no longer. Returns once it does.
pub async fn offer_tls(on: bool) {
    let admin = Service::require("postgres").expect("who calls this has a server").address();
    let client = connect(&admin).await;
    let wanted = if on { "on" } else { "off" };
    // Each for itself: together they would be a transaction, in which the first may not be.
    for sql in [&*format!("ALTER SYSTEM SET ssl = {wanted}"), "SELECT pg_reload_conf()"] {
        client.batch_execute(sql).await.expect(sql);
    }
    let offers = async {
        while connect(&admin).await.query_one("SHOW ssl", &[]).await.expect("an answer").get::<_, &str>(0)
            != wanted
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, offers).await.expect("the server reads its settings anew");
}

/// A connection, kept up by a task of its own.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// Declares each test twice, for SQLite and for PostgreSQL: functions that take the `common::Bench` of their test program,
/// which has `async fn sqlite() -> Self` and `async fn postgres() -> Option<Self>`.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let test = super::$name(super::common::Bench::sqlite().await);
                tokio::time::timeout($crate::database::PATIENCE, test).await.expect("the test ends in time");
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(bench) = super::common::Bench::postgres().await else { return };
                let test = super::$name(bench);
                tokio::time::timeout($crate::database::PATIENCE, test).await.expect("the test ends in time");
            })*
        }
    };
}
