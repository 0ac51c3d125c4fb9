//! Whether this host has the room, the files, the clock and the ports.

use super::Check;
use crate::config::{Config, StoreUrl};
use jiff::Timestamp;
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, getrlimit};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Less room than this, and a store soon stops.
const ROOM_NEEDED: u64 = 200 * MIB;
/// Less than this is worth a look.
const ROOM_WANTED: u64 = 5 * 1024 * MIB;
/// Files that the program has open beside its clients' connections: libraries, sockets to brokers and stores.
const OWN_FILES: u64 = 256;
/// 2025-01-01: this program is younger, so a clock that says less is wrong.
const YOUNGEST: i64 = 1_735_689_600;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks: Vec<Check> = folders(config).iter().map(|(key, folder)| room(key, folder)).collect();
    checks.push(open_files(config));
    checks.push(clock(Timestamp::now()));
    checks.push(port("api.listen", config.api.listen));
    checks.extend(config.metrics.listen.map(|address| port("metrics.listen", address)));
    checks
}

/// Folders that files are written to, each with the setting that says so.
fn folders(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let folder_of = |file: &Path| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut folders = Vec::new();
    if let StoreUrl::Sqlite(file) = &config.store.url {
        folders.push(("store.url", folder_of(file)));
    }
    if let Some(file) = &config.windows.out {
        folders.push(("windows.out", folder_of(file)));
    }
    folders
}

fn room(key: &str, folder: &Path) -> Check {
    let name = format!("disk, {key}");
    let shown = folder.display();
    if let Err(fault) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        let advice = format!("make {shown}, or give this user the right to write it");
        return Check::failed(name, format!("{shown} cannot be written: {}", fault.kind()), advice);
    }
    match statvfs(folder) {
        Ok(found) => judge_room(name, folder, found.f_bavail.saturating_mul(found.f_frsize)),
        Err(fault) => Check::skipped(name, format!("how full {shown} is cannot be told: {}", fault.kind())),
    }
}

fn judge_room(name: String, folder: &Path, free: u64) -> Check {
    let found = format!("{} MiB free for {}", free / MIB, folder.display());
    match free {
        ..ROOM_NEEDED => Check::failed(name, found, "make room: a full disk stops the store"),
        ROOM_NEEDED..ROOM_WANTED => Check::warning(name, found, "make room soon, or shorten time.retention"),
        ROOM_WANTED.. => Check::ok(name, found),
    }
}

fn open_files(config: &Config) -> Check {
    let connections = u64::try_from(config.api.limits.connections.get()).unwrap_or(u64::MAX);
    judge_open_files(getrlimit(Resource::Nofile).current, connections)
}

fn judge_open_files(limit: Option<u64>, connections: u64) -> Check {
    let name = "open files";
    let wanted = connections.saturating_add(OWN_FILES);
    match limit {
        None => Check::ok(name, "no limit"),
        Some(limit) if limit < OWN_FILES => Check::failed(
            name,
            format!("limit {limit}"),
            format!("raise it to {wanted}: ulimit -n, LimitNOFILE"),
        ),
        Some(limit) if limit < wanted => Check::warning(
            name,
            format!(
                "limit {limit}, less than api.limits.connections ({connections}) and {OWN_FILES} of its own"
            ),
            format!("raise it to {wanted} (ulimit -n, LimitNOFILE), or lower api.limits.connections"),
        ),
        Some(limit) => Check::ok(name, format!("limit {limit}")),
    }
}

fn clock(now: Timestamp) -> Check {
    if now.as_second() < YOUNGEST {
        let advice = "set it by NTP: silence and lateness are measured by it";
        return Check::failed("clock", format!("it says {now}, before this program was written"), advice);
    }
    Check::ok("clock", format!("it says {now:.0}"))
}

fn port(key: &str, address: SocketAddr) -> Check {
    let name = format!("port, {key}");
    let advice = |what: &str| format!("{what}, or set {key} to another address");
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(fault) if fault.kind() == ErrorKind::AddrInUse => {
            let found = format!("{address} is taken, by a smartlog that runs or another program");
            Check::warning(name, found, advice("stop what listens there"))
        }
        Err(fault) if fault.kind() == ErrorKind::PermissionDenied => {
            Check::failed(name, format!("{address} is not for this user"), advice("take a port above 1023"))
        }
        Err(fault) => Check::failed(
            name,
            format!("{address}: {}", fault.kind()),
            advice("take an address that this host has"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn room_is_judged_by_what_is_free() {
        let outcome = |mib: u64| judge_room("disk".into(), Path::new("/data"), mib * MIB).outcome;
        assert_eq!(outcome(199), Outcome::Failed);
        assert_eq!(outcome(200), Outcome::Warning);
        assert_eq!(outcome(5 * 1024), Outcome::Ok);
        let absent = room("store.url", Path::new("/dev/null/absent"));
        assert_eq!(absent.outcome, Outcome::Failed);
        assert!(absent.found.contains("cannot be written: not a directory"), "{absent:?}");
    }

    #[test]
    fn few_open_files_are_a_fault_and_fewer_than_connections_a_warning() {
        let outcome = |limit| judge_open_files(limit, 10_000).outcome;
        assert_eq!(outcome(None), Outcome::Ok);
        assert_eq!(outcome(Some(100)), Outcome::Failed);
        assert_eq!(outcome(Some(1024)), Outcome::Warning);
        assert_eq!(outcome(Some(65_536)), Outcome::Ok);
    }

    #[test]
    fn a_port_in_use_is_told_from_a_free_one_and_from_one_of_another_host() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(port("api.listen", address).outcome, Outcome::Warning);
        drop(taken);
        assert_eq!(port("api.listen", address).outcome, Outcome::Ok);
        // TEST-NET-1, which no host has.
        assert_eq!(
            port("api.listen", "192.0.2.1:8000".parse().expect("an address")).outcome,
            Outcome::Failed
        );
    }

    #[test]
    fn a_clock_from_before_the_program_is_wrong() {
        assert_eq!(clock(Timestamp::UNIX_EPOCH).outcome, Outcome::Failed);
        assert_eq!(clock(Timestamp::now()).outcome, Outcome::Ok);
    }

    #[test]
    fn files_beside_the_program_lie_in_its_folder() {
        let mut config = Config::default();
        config.windows.out = Some("out/windows.csv".into());
        assert_eq!(
            folders(&config),
            [("store.url", PathBuf::from(".")), ("windows.out", PathBuf::from("out"))]
        );
    }
}
