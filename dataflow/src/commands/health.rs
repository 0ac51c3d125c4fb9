//! `smartlog health`: asks a running `smartlog run` or `smartlog api` on this host whether it is well.
//!
//! For supervisors that start a command to find out, in containers that hold nothing but this program.

use crate::cli::Role;
use crate::config::Config;
use anyhow::{Context as _, bail};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// How long each step may take: supervisors ask every few seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longer answers are cut: only the first lines count.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Prints what each process answers; 0 when all that answer are well.
///
/// # Errors
/// When nobody answers, or the answer is no HTTP.
pub fn run(config: &Config, role: Option<Role>) -> anyhow::Result<ExitCode> {
    let doors = doors(config, role)?;
    let (mut well, mut silent) = (true, Vec::new());
    let mut out = std::io::stdout().lock();
    for (address, path) in &doors {
        match ask(*address, path) {
            Ok(answer) => {
                let (status, body) = split(&answer).with_context(|| format!("no HTTP at {address}"))?;
                well &= status == 200;
                writeln!(out, "http://{address}{path} {status} {body}")?;
            }
            Err(error) => silent.push(format!("http://{address}{path}: {error}")),
        }
    }
    if silent.len() == doors.len() {
        bail!("nobody answers at {}", silent.join(", nor at "));
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where to ask. Without a role, one of the two need not be there.
fn doors(config: &Config, role: Option<Role>) -> anyhow::Result<Vec<(SocketAddr, &'static str)>> {
    let api = (reachable(config.api.listen), "/health/ready");
    let run = config.metrics.listen.map(|address| (reachable(address), "/health"));
    let unset = "metrics.listen is unset, so `smartlog run` answers nowhere: set it for both";
    Ok(match role {
        Some(Role::Api) => vec![api],
        Some(Role::Run) => vec![run.context(unset)?],
        None => std::iter::once(api).chain(run).collect(),
    })
}

/// Where to ask a program that listens on `address`: one that listens on all of them is asked on the loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?; // in one piece
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Status code and body of an HTTP/1.1 answer.
fn split(answer: &str) -> anyhow::Result<(u16, &str)> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("expected an HTTP answer, found {} bytes without the end of a head", answer.len());
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status =
        status.with_context(|| format!("expected a status code, found {:?}", head.lines().next()))?;
    Ok((status, body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request with `answer`, and gives what it was asked.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                asked.extend(byte);
            }
            stream.write_all(answer.as_bytes()).expect("it listens");
            String::from_utf8_lossy(&asked).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let (address, asked) =
            server("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{\"status\":\"down\"}\n");
        let answer = ask(address, "/health").expect("an answer");
        assert_eq!(split(&answer).expect("HTTP"), (503, "{\"status\":\"down\"}"));
        assert!(asked.join().expect("it ended").starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[test]
    fn what_is_no_http_is_said() {
        let error = split("SSH-2.0-OpenSSH").expect_err("no HTTP").to_string();
        assert_eq!(error, "expected an HTTP answer, found 15 bytes without the end of a head");
        let error = split("HTTP/1.1\r\n\r\n").expect_err("no status").to_string();
        assert_eq!(error, "expected a status code, found Some(\"HTTP/1.1\")");
    }

    #[test]
    fn an_address_that_means_all_is_asked_on_the_loopback() {
        for (listens, asked) in
            [("0.0.0.0:8000", "127.0.0.1:8000"), ("[::]:1", "[::1]:1"), ("10.1.2.3:9464", "10.1.2.3:9464")]
        {
            assert_eq!(reachable(listens.parse().expect("an address")).to_string(), asked);
        }
    }
}
