//! HTTP as the tests speak it: a client that asks once, and a receiver that writes down what it is sent.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The status and body of a GET.
///
/// # Errors
/// When nobody answers in time.
pub fn get(url: &str) -> Result<(u16, String), String> {
    exchange("GET", url, &[], "")
}

/// As [`get`], with headers.
pub fn get_with(url: &str, headers: &[(&str, &str)]) -> Result<(u16, String), String> {
    exchange("GET", url, headers, "")
}

/// As [`post`], with headers, the body's media type among them.
///
/// # Errors
/// When nobody answers in time.
pub fn post_with(url: &str, headers: &[(&str, &str)], body: &str) -> Result<(u16, String), String> {
    exchange("POST", url, headers, body)
}

/// The status and body of a POST.
pub fn post(url: &str, body: &str) -> Result<(u16, String), String> {
    exchange("POST", url, &[("content-type", "application/x-www-form-urlencoded")], body)
}

/// The status and body of a request that brings JSON.
pub fn send_json(method: &str, url: &str, body: &str) -> Result<(u16, String), String> {
    exchange(method, url, &[("content-type", "application/json")], body)
}

/// The JSON that a GET of a 200 brings.
///
/// # Panics
/// When it is anything else.
pub fn json(url: &str) -> Value {
    let (status, body) = get(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error}: {body}"))
}

fn exchange(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<(u16, String), String> {
    let told = |error: std::io::Error| error.to_string();
    let rest = url.strip_prefix("http://").ok_or("expected http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let mut head = format!("{method} /{path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).map_err(told)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(told)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// Text for a query string.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A request that a [`Receiver`] was sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// When it was read.
    pub at: Instant,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// What a [`Receiver`] answers.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Before anything is said.
    pub delay: Duration,
}

impl Reply {
    pub fn of(status: u16) -> Self {
        Reply { status, headers: Vec::new(), body: "{}".into(), delay: Duration::ZERO }
    }
}

/// What the `n`-th request (from 0) is answered.
type Answer = dyn Fn(usize, &Received) -> Reply + Send + Sync;

/// A server on a free port of this host, until the test program ends.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers every request by `answer`.
    pub fn start(answer: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port has an address");
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (taken, answer): (_, Arc<Answer>) = (Arc::clone(&received), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taken, answer) = (Arc::clone(&taken), Arc::clone(&answer));
                std::thread::spawn(move || {
                    // A client that goes away in between is part of what is tested.
                    let _ = serve(stream, &taken, &*answer);
                });
            }
        });
        Receiver { address, received }
    }

    /// Its URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that came so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, taken: &Mutex<Vec<Received>>, answer: &Answer) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = Received {
            method,
            path,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            at: Instant::now(),
        };
        let number = {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(request.clone());
            taken.len() - 1
        };
        let Reply { status, headers, body, delay } = answer(number, &request);
        std::thread::sleep(delay);
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        writer.write_all(format!("{head}\r\n{body}").as_bytes())?;
    }
}
