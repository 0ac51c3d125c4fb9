//! Google Cloud Storage as its documents have it: no endpoint of it can be had locally.

use super::*;
use crate::parquet::config::S3Config;
use aws_sdk_s3::config::Credentials;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What lies there, by path: the lines of its metadata, and its content.
type Objects = Arc<Mutex<BTreeMap<String, (Vec<String>, Vec<u8>)>>>;

/// A bucket of a service that passes over `If-None-Match`, and takes no request with headers of both families.
async fn google() -> (Bucket, Objects) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let s3 = S3Config {
        endpoint: Some(format!("http://{}", listener.local_addr().expect("an address"))),
        region: Some("auto".into()),
        path_style: true,
        precondition: Precondition::Gcs,
    };
    let objects = Objects::default();
    let there = Arc::clone(&objects);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A request that breaks off is the client's to tell.
            drop(answer(&connection, &there));
        }
    });
    let config = ExportConfig { s3, ..ExportConfig::new("s3://lake") };
    let shared = crate::aws::loader(Some("auto"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "tests"))
        .load()
        .await;
    let bucket = Bucket {
        client: s3_client(&config, &shared),
        bucket: "lake".into(),
        prefix: String::new(),
        precondition: config.s3.precondition,
        url: config.target,
        usage: Usage::default(),
        worked: AtomicBool::new(false),
    };
    (bucket, objects)
}

/// One request a connection.
fn answer(mut connection: &TcpStream, objects: &Objects) -> std::io::Result<()> {
    let mut request = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    request.read_exact(&mut body)?;
    let of = |family: &str| head.iter().filter(|line| line.starts_with(family)).cloned().collect::<Vec<_>>();
    let mut words = head.first().map_or("", String::as_str).split([' ', '?']);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut objects = objects.lock().expect("the test goes on");
    let (status, about) = match (method, objects.get(path).cloned()) {
        _ if !of("x-amz-").is_empty() && !of("x-goog-").is_empty() => {
            ("400 Bad Request", "content-length: 0".to_owned())
        }
        ("put", _) => {
            objects.insert(path.to_owned(), (of("x-amz-meta-"), body));
            ("200 OK", "content-length: 0".to_owned())
        }
        ("head", Some((tags, content))) => {
            ("200 OK", format!("{}\r\ncontent-length: {}", tags.join("\r\n"), content.len()))
        }
        _ => ("404 Not Found", "content-length: 0".to_owned()),
    };
    write!(connection, "HTTP/1.1 {status}\r\nconnection: close\r\n{about}\r\n\r\n")
}

#[tokio::test]
async fn google_takes_a_name_once() {
    let (bucket, objects) = google().await;
    let content = || objects.lock().expect("the server goes on")["/lake/logs/a"].1.clone();
    let tags = [("smartlog-rows".to_owned(), "1".to_owned())];
    let put = |text: &'static str| {
        bucket.put_new("logs/a", Body::Bytes(Bytes::from_static(text.as_bytes())), &tags)
    };
    assert_eq!(put("first").await.expect("written"), Put::Written);
    assert_eq!(put("second").await.expect("answered"), Put::Taken);
    assert_eq!(content(), b"first");

    let head = bucket.head("logs/a").await.expect("answered").expect("it is there");
    assert_eq!((head.bytes, head.tags["smartlog-rows"].as_str()), (5, "1"));
    let replace = |old| bucket.replace("logs/a", Bytes::from_static(b"third"), &tags, old);
    assert!(!replace(None).await.expect("answered"), "something is there");
    assert_eq!(content(), b"first");
    assert!(replace(Some(&head)).await.expect("answered"));
    assert_eq!(content(), b"third");
    let used = bucket.usage().take();
    assert_eq!((used.puts, used.gets), (2, 4), "each look is a request too");
}
