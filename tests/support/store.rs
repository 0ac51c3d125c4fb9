//! A store of a test's own, read past the program: PostgreSQL by its wire protocol, SQLite by its library.

use crate::unique;
use rusqlite::types::ValueRef;
use smartlog_test_services::Service;
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Which of the two stores; tests are written for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

/// One value as text; `None`: NULL. Bytes are in hexadecimal.
pub type Cell = Option<String>;

/// A table that nobody can read or write until this is dropped: its session ends then.
pub struct Locked(#[expect(dead_code, reason = "held for what its end does")] Client);

/// An empty database, dropped at the end.
pub struct Store {
    pub kind: Kind,
    /// What `--store` takes.
    pub url: String,
    folder: TempDir,
    database: Option<(String, String)>,
    runtime: Runtime,
    connection: Option<Client>,
    probe: Option<rusqlite::Connection>,
}

impl Store {
    /// `None` when tests of services are switched off.
    pub fn create(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A thread of its own keeps connections alive between calls.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, database) = match kind {
            Kind::Sqlite => (format!("sqlite:{}", folder.path().join("state.db").display()), None),
            Kind::Postgres => {
                let admin = Service::require("postgres")?.address();
                let name = unique("e2e");
                let sql = format!("create database {name} template template0 strategy file_copy");
                postgres_rows(&runtime, &connect(&runtime, &admin).expect("PostgreSQL answers"), &sql)
                    .expect("a database can be made");
                let (server, _) = admin.rsplit_once('/').expect("the URL ends with a database");
                (format!("{server}/{name}"), Some((admin, name)))
            }
        };
        Some(Store { kind, url, folder, database, runtime, connection: None, probe: None })
    }

    /// Its folder, for files that the test writes beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `sql`; all values as text.
    ///
    /// # Panics
    /// When the store refuses it or does not answer.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Cell>> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Store::rows`], where the store may be down or have no tables yet.
    pub fn try_rows(&mut self, sql: &str) -> Result<Vec<Vec<Cell>>, String> {
        if self.kind == Kind::Sqlite {
            return sqlite_rows(self.url.trim_start_matches("sqlite:"), sql)
                .map_err(|error| error.to_string());
        }
        if self.connection.as_ref().is_none_or(Client::is_closed) {
            self.connection = Some(connect(&self.runtime, &self.url)?);
        }
        let client = self.connection.as_ref().ok_or("there is a connection now")?;
        postgres_rows(&self.runtime, client, sql)
    }

    /// The single number that `sql` gives; 0 for NULL.
    pub fn number(&mut self, sql: &str) -> i64 {
        self.try_number(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Store::number`], where the store may be down or have no tables yet.
    pub fn try_number(&mut self, sql: &str) -> Result<i64, String> {
        let rows = self.try_rows(sql)?;
        let cell = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or("0");
        cell.parse().map_err(|_| format!("{sql} gives {cell}, no number"))
    }

    /// Records that the sink has done with, over all partitions; 0 while there is no table.
    pub fn progress(&mut self, sink: &str) -> i64 {
        let sql = format!("select sum(next_offset) from sink_positions where sink = '{sink}'");
        self.try_number(&sql).unwrap_or(0)
    }

    /// Makes many commits take up to a tenth of a second, so that kills and restarts fall into them. On PostgreSQL a killed
    /// process' commit then goes on in the server (a zombie) while its successor starts.
    pub fn slow_commits_down(&mut self) {
        let statements: &[&str] = match self.kind {
            Kind::Postgres => &[
                "create function dawdle() returns trigger language plpgsql as $$ begin if random() < 0.5 then \
                 perform pg_sleep(random() * 0.1); end if; return null; end $$",
                "create constraint trigger dawdle after insert or update on sink_positions deferrable initially deferred \
                 for each row execute function dawdle()",
                "create constraint trigger dawdle after insert or update on pipeline_state deferrable initially deferred \
                 for each row execute function dawdle()",
            ],
            Kind::Sqlite => &[
                "create trigger dawdle after update on sink_positions begin select (with recursive n(i) as (select 1 union \
                 all select i + 1 from n where i < abs(random()) % 200000) select count(*) from n); end",
            ],
        };
        statements.iter().for_each(|sql| drop(self.rows(sql)));
    }

    /// Keeps everybody off `table`, until the guard is dropped. PostgreSQL alone can lock a table.
    pub fn lock(&self, table: &str) -> Locked {
        assert_eq!(self.kind, Kind::Postgres, "only PostgreSQL locks tables");
        let client = connect(&self.runtime, &self.url).expect("PostgreSQL answers");
        let sql = format!("begin; lock table {table} in access exclusive mode");
        postgres_rows(&self.runtime, &client, &sql).expect("the table can be locked");
        Locked(client)
    }

    /// Makes PostgreSQL take about a thousand logs a second, a hundredth of what it can.
    pub fn slow_logs_down(&mut self) {
        self.rows(
            "create function crawl() returns trigger language plpgsql as $$ begin perform pg_sleep(0.001); return new; end $$",
        );
        self.rows("create trigger crawl before insert on logs for each row execute function crawl()");
    }

    /// The end of [`Store::slow_logs_down`].
    pub fn let_logs_go(&mut self) {
        // The trigger stays: dropping it locks the partitions in an order that the program's own commits may deadlock with.
        self.rows(
            "create or replace function crawl() returns trigger language plpgsql as $$ begin return new; end $$",
        );
    }

    /// Whether a transaction of the program is under way: on PostgreSQL, whether one that [`Store::slow_commits_down`] holds up
    /// inside COMMIT.
    pub fn is_committing(&mut self) -> bool {
        match self.kind {
            Kind::Postgres => {
                let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
                self.number(sql) > 0
            }
            Kind::Sqlite => {
                let file = self.url.trim_start_matches("sqlite:");
                let probe = self.probe.get_or_insert_with(|| {
                    let probe = rusqlite::Connection::open(file).expect("the file can be opened");
                    probe.busy_timeout(std::time::Duration::ZERO).expect("a timeout can be set");
                    probe
                });
                match probe.execute_batch("begin immediate; rollback") {
                    Ok(()) => false,
                    Err(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy),
                }
            }
        }
    }

    /// An expression for a column that holds an instant: microseconds since 1970.
    pub fn micros(&self, column: &str) -> String {
        match self.kind {
            Kind::Postgres => format!("(extract(epoch from {column}) * 1000000)::bigint"),
            Kind::Sqlite => column.to_owned(),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.connection = None;
        let Some((admin, name)) = &self.database else { return };
        // A server that is down takes its data with it.
        if let Ok(client) = connect(&self.runtime, admin) {
            let _ = postgres_rows(&self.runtime, &client, &format!("drop database {name} with (force)"));
        }
    }
}

fn connect(runtime: &Runtime, url: &str) -> Result<Client, String> {
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, NoTls).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(client)
    })
}

fn postgres_rows(runtime: &Runtime, client: &Client, sql: &str) -> Result<Vec<Vec<Cell>>, String> {
    let messages =
        runtime.block_on(client.simple_query(sql)).map_err(|error| format!("{error}: {error:?}"))?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

fn sqlite_rows(file: &str, sql: &str) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let connection =
        rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let cells: rusqlite::Result<Vec<Cell>> = (0..columns).map(|i| row.get_ref(i).map(text)).collect();
        all.push(cells?);
    }
    Ok(all)
}

fn text(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(hex(bytes)),
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
