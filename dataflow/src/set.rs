//! The connections between the processes of a set.
//!
//! Each process connects to those before it in the host file, and is connected to by those after it. Our own instead of
//! timely's, which prints where it stands and panics on a stranger.

use crate::engine::Cluster;
use anyhow::Context as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::Duration;

/// What a process says first, before its number: strangers are told apart by it.
const GREETING: &[u8; 8] = b"smartlog";
/// Between two tries while the others are not there.
const RETRY: Duration = Duration::from_millis(200);
/// How long whoever connected may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to every other process, by number; `None` in this one's own place. Waits until all are there.
///
/// # Errors
/// When this process' address cannot be listened on.
pub fn connect(cluster: &Cluster) -> anyhow::Result<Vec<Option<TcpStream>>> {
    let Cluster { process, addresses } = cluster;
    let own = &addresses[*process];
    let listener = TcpListener::bind(own.as_str())
        .with_context(|| format!("process {process} cannot listen on {own}, its address in the host file"))?;
    let streams: Mutex<Vec<Option<TcpStream>>> = Mutex::new(addresses.iter().map(|_| None).collect());
    let keep = |number: usize, stream| {
        streams.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(stream);
    };
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| accept(&listener, *process, addresses.len(), keep));
        for (number, address) in addresses.iter().enumerate().take(*process) {
            keep(number, reach(*process, number, address)?);
        }
        match accepting.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("waiting for the other processes of the set ended early"),
        }
    })?;
    tracing::info!("all {} processes of the set are connected", addresses.len());
    Ok(streams.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Connects to an earlier process, once it is there.
fn reach(process: usize, number: usize, address: &str) -> anyhow::Result<TcpStream> {
    let mut told = false;
    loop {
        let greeted = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            stream.write_all(GREETING)?;
            stream.write_all(&(process as u64).to_be_bytes())?;
            Ok(stream)
        });
        match greeted {
            Ok(stream) => return Ok(stream),
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::info!("process {number} at {address} is not there yet ({error}); waiting for it");
            }
            Err(_) => {}
        }
        sleep(RETRY);
    }
}

/// Takes the connections of all later processes.
fn accept(
    listener: &TcpListener,
    process: usize,
    processes: usize,
    keep: impl Fn(usize, TcpStream),
) -> anyhow::Result<()> {
    let mut missing: Vec<usize> = (process + 1..processes).collect();
    while !missing.is_empty() {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
                continue;
            }
            Err(error) => return Err(error).context("waiting for the other processes of the set"),
        };
        match greeted(&stream) {
            Ok(number) if missing.contains(&number) => {
                missing.retain(|awaited| *awaited != number);
                keep(number, stream);
            }
            Ok(number) => {
                tracing::warn!("{from} says that it is process {number} of the set, which is not awaited")
            }
            Err(error) => tracing::warn!("{from} connected and is no process of the set: {error}"),
        }
    }
    Ok(())
}

/// The number of the process at the other end.
fn greeted(mut stream: &TcpStream) -> std::io::Result<usize> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut greeting, mut number) = ([0; GREETING.len()], [0; 8]);
    stream.read_exact(&mut greeting)?;
    if &greeting != GREETING {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it said something else"));
    }
    stream.read_exact(&mut number)?;
    stream.set_read_timeout(None)?;
    usize::try_from(u64::from_be_bytes(number)).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: usize) -> Vec<String> {
        let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
        let held: Vec<TcpListener> = (0..count).map(bind).collect();
        held.iter().map(|l| l.local_addr().expect("bound").to_string()).collect()
    }

    #[test]
    fn everybody_is_connected_to_everybody_in_whatever_order_they_come_and_strangers_are_sent_away() {
        let addresses = addresses(3);
        let connect_as = |process: usize| {
            let cluster = Cluster { process, addresses: addresses.clone() };
            std::thread::spawn(move || connect(&cluster).expect("the set connects"))
        };
        let last = connect_as(2);
        let first = connect_as(0);
        // A port scanner, and one that says nothing sensible.
        let stranger = loop {
            match TcpStream::connect(&addresses[0]) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        (&stranger).write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
        let middle = connect_as(1);
        let mut sets = [first, middle, last].map(|thread| thread.join().expect("ends well"));
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let word = [a as u8, b as u8];
            sets[a][b].as_mut().expect("connected").write_all(&word).expect("sent");
            let mut heard = [0; 2];
            sets[b][a].as_mut().expect("connected").read_exact(&mut heard).expect("heard");
            assert_eq!(heard, word);
        }
        assert!((0..3).all(|n| sets[n][n].is_none()));
    }
}
