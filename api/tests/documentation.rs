//! Runs the examples of docs/API.md.

mod common;

use common::Bench;
use hyper::body::Bytes;

/// One `curl` line: URL path, headers, the status that its comment promises.
struct Example {
    path: String,
    headers: Vec<(String, String)>,
    status: u16,
}

impl Example {
    fn read(line: &str) -> Example {
        let (command, comment) = line.split_once('#').unwrap_or((line, "200"));
        let quoted: Vec<&str> = command.split('\'').skip(1).step_by(2).collect();
        let (url, headers) = quoted.split_last().expect("a quoted URL");
        let header = |text: &&str| {
            let (name, value) = text.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        };
        let path = url.strip_prefix("http://localhost:8000").expect("the local server").to_owned();
        let status = comment.trim().parse().expect("a status");
        Example { path, headers: headers.iter().map(header).collect(), status }
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
    for Example { path, headers, status } in examples {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let response = server.open("GET", &path, &headers, Bytes::new()).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    server.end().await;
}
