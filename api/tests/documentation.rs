//! Runs the examples of docs/API.md.

mod common;

use common::Bench;
use hyper::body::Bytes;

/// One `curl` line: method, URL path, headers, body, and the status that its comment promises.
struct Example {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
}

impl Example {
    fn read(line: &str) -> Example {
        let (command, comment) = line.split_once(" #").unwrap_or((line, "200"));
        let method = if command.contains(" -X POST ") { "POST" } else { "GET" };
        let (mut path, mut headers, mut body) = (None, Vec::new(), String::new());
        let mut option = "";
        for (at, part) in command.split('\'').enumerate() {
            match (at % 2, option) {
                (0, _) => option = part.trim().rsplit(' ').next().unwrap_or_default(),
                (_, "-H") => {
                    let (name, value) = part.split_once(": ").expect("a header");
                    headers.push((name.to_owned(), value.to_owned()));
                }
                (_, "-d") => body = part.to_owned(),
                _ => {
                    path =
                        Some(part.strip_prefix("http://localhost:8000").expect("the local server").to_owned())
                }
            }
        }
        let status = comment.trim().parse().expect("a status");
        Example { method, path: path.expect("a URL"), headers, body, status }
    }
}

#[tokio::test]
async fn every_example_of_the_documentation_answers_as_promised() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md");
    let text = std::fs::read_to_string(file).expect("docs/API.md");
    let examples: Vec<Example> =
        text.lines().filter(|line| line.starts_with("curl ")).map(Example::read).collect();
    assert!(examples.len() > 10, "found {}", examples.len());
    let bench = Bench::sqlite().await;
    bench.seed_pipeline().await;
    bench.seed_anomalies(20).await;
    let server = bench.serve().await;
    for Example { method, path, headers, body, status } in examples {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let response = server.open(method, &path, &headers, Bytes::from(body)).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    server.end().await;
}
