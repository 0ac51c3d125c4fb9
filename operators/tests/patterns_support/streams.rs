//! Made-up streams: sentences with values, names, lists and states, drawn from a seed.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use smartlog_schema::level::Level;

pub struct Message {
    pub text: String,
    pub at_us: i64,
    pub level: Level,
}

pub fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

const SENTENCES: [&str; 26] = [
    "Failed login of user {name} from {ip}",
    "session {state} for user {name} by (uid={n})",
    "Received block blk_{n} of size {n} from /{ip}",
    "{ip}:{n} Served block blk_{n} to /{ip}",
    "Connection to {host} {state} after {n} ms",
    "request {n} took {n}ms",
    "members [{name}, {name}] of group {name} {state}",
    "members [{name}, {name}, {name}] of group {name} {state}",
    "Invalid user {name} {name} from network {host}",
    "Invalid user {name} from network {host}",
    "{word} {word} {word}",
    "{word} {word} of {word} {state}",
    "key={name} mode={state} size={n}",
    "Deleting {path} and {path}",
    "Deleting {path}",
    "java.io.IOException: {word} at line {n}",
    "{host} is {state}",
    "queue {name} is {state}, depth {n}",
    "{{\"event\":\"{word}\",\"user\":\"{name}\",\"ok\":true}}",
    "worker-{n} on node-{n} {state}",
    "Registering class {host} for {host}",
    "loaded {n} rows: {word} {name} {word}",
    "checkpoint written",
    "retry {n} of {n}: {word} {state}",
    "the {word} was {state} by {name} at {host}",
    "cache {word} for key {name} in zone {name}",
];
const STATES: [&str; 8] = ["started", "stopped", "failed", "ok", "opened", "closed", "UP", "DOWN"];
const WORDS: [&str; 9] = ["table", "index", "disk", "fan", "socket", "ledger", "mirror", "quota", "lease"];

/// `count` messages, a second of event time or less apart.
pub fn messages(rng: &mut StdRng, count: usize) -> Vec<Message> {
    let mut at_us = 0;
    (0..count)
        .map(|_| {
            at_us += rng.random_range(0..1_000_000);
            let text = fill(SENTENCES[rng.random_range(0..SENTENCES.len())], rng);
            Message { text, at_us, level: Level::ALL[rng.random_range(0..Level::ALL.len())] }
        })
        .collect()
}

fn fill(sentence: &str, rng: &mut StdRng) -> String {
    let mut text = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((placeholder, after)) = after.split_once('}') else { break };
        text.push_str(&value(placeholder, rng));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn value(placeholder: &str, rng: &mut StdRng) -> String {
    match placeholder {
        "n" => rng.random_range(0..100_000).to_string(),
        "ip" => format!("10.{}.0.{}", rng.random_range(0..9), rng.random_range(0..256)),
        "name" => letters(rng, 3, 7),
        "host" => format!("{}.{}.example", letters(rng, 1, 2), WORDS[rng.random_range(0..WORDS.len())]),
        "path" => format!("/var/{}/{}", letters(rng, 1, 3), rng.random_range(0..9)),
        "state" => STATES[rng.random_range(0..STATES.len())].into(),
        "word" => WORDS[rng.random_range(0..WORDS.len())].into(),
        other => other.to_owned(),
    }
}

fn letters(rng: &mut StdRng, least: usize, most: usize) -> String {
    (0..rng.random_range(least..=most)).map(|_| char::from(rng.random_range(b'g'..=b'z'))).collect()
}

/// Text made of what scanners stumble over.
pub fn noise(rng: &mut StdRng) -> String {
    const PIECES: [&str; 38] = [
        "a", "Z", "7", "0x", " ", "  ", "\t", "=", ":", "::", "/", "//", "\\", "(", ")", "[", "]", "{", "}",
        "<", ">", "<*>", "\"", "'", ",", ";", "|", ".", "..", "-", "_", "@", "é", "中", "\u{0}", "Jan", "ms",
        "\n",
    ];
    (0..rng.random_range(0..60)).map(|_| PIECES[rng.random_range(0..PIECES.len())]).collect()
}
