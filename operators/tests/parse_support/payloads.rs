//! Payloads that are nearly logs: made by the grammar, then broken.

use proptest::prelude::*;
use proptest::sample::{Index, select};

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => Just(""), 1 => select(vec![" ", "\n", "\t", "\r\n", "   "])]
}

/// The content of a string, as written: mostly fine, now and then against the grammar.
fn content() -> impl Strategy<Value = String> {
    let fine = vec![
        "a",
        "Database connection timeout",
        "é",
        "😀",
        "漢字",
        " ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "/",
        "\u{7f}",
        "null",
        "0123456789012345678901234567890123456789012345678901234567890123",
        "\u{2028}",
    ];
    let escapes = vec![
        "\\\"",
        "\\\\",
        "\\/",
        "\\n",
        "\\t",
        "\\b",
        "\\f",
        "\\r",
        "\\u0041",
        "\\u00e9",
        "\\u0000",
        "\\u001f",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\udc00",
        "\\ud83d\\ud83d\\ude00",
        "\\uD83Dx",
        "\\uFFFD",
        "\\u000a",
    ];
    let broken = vec!["\\x", "\\u12G4", "\\u12", "\n", "\u{1}", "\"", "\\", "\u{0}"];
    let piece = prop_oneof![160 => select(fine), 48 => select(escapes), 1 => select(broken)];
    prop_oneof![
        6 => select(vec!["api-gateway", "x", "", "Request completed", "host-01", "INFO", "2026-01-15T10:30:00Z"]).prop_map(str::to_owned),
        6 => prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat()),
        1 => (90usize..130).prop_map(|length| "é".repeat(length)),
        1 => (0usize..140).prop_map(|length| "\\n".repeat(length)),
        1 => (0usize..140).prop_map(|length| "z".repeat(length)),
    ]
}

fn string() -> impl Strategy<Value = String> {
    content().prop_map(|content| format!("\"{content}\""))
}

fn scalar() -> impl Strategy<Value = String> {
    let words = vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "7",
        "17",
        "-1",
        "1.5",
        "1e5",
        "1E-7",
        "1e400",
        "1e200000",
        "1e-400",
        "123456789012345678901234567890123456789012345678901234567890123456789",
        "1768473000",
        "1768473000123",
        "12345678901234567890123456789012",
        "123456789012345678901234567890123",
        "9223372036854775808",
        "0.1",
        "5000",
    ];
    let broken =
        vec!["01", "1.", ".5", "-", "+1", "1e", "1e+", "nul", "True", "NaN", "'x'", "--1", "0x10", ""];
    prop_oneof![100 => select(words), 1 => select(broken)].prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => string(), 2 => scalar()];
    let nested = leaf.prop_recursive(4, 24, 4, |inner| {
        let object =
            prop::collection::vec((space(), string(), space(), space(), inner.clone(), space()), 0..4)
                .prop_map(|members| {
                    let members: Vec<String> = members
                        .into_iter()
                        .map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"))
                        .collect();
                    format!("{{{}}}", members.join(","))
                });
        let array = prop::collection::vec((space(), inner, space()), 0..4).prop_map(|elements| {
            let elements: Vec<String> =
                elements.into_iter().map(|(a, value, b)| format!("{a}{value}{b}")).collect();
            format!("[{}]", elements.join(","))
        });
        prop_oneof![3 => object, 1 => array]
    });
    let deep = (1usize..120, any::<bool>()).prop_map(|(depth, object)| {
        let (open, close) = if object { ("{\"k\":", "}") } else { ("[", "]") };
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    });
    prop_oneof![30 => nested, 1 => deep]
}

fn timestamp() -> impl Strategy<Value = String> {
    let odd = vec![
        "\"2026-01-15T10:30:00.123456789123Z\"",
        "\"2026-01-15t10:30:00z\"",
        "\"2026-01-15 10:30:00-00:00\"",
        "\"2026-06-30T23:59:60Z\"",
        "\"2026-06-30T23:59:60.5Z\"",
        "\"2026-02-29T00:00:00Z\"",
        "\"2024-02-29T00:00:00Z\"",
        "\"2026-13-01T00:00:00Z\"",
        "\"2026-01-15T24:00:00Z\"",
        "\"2026-01-15T10:30:00\"",
        "\"2026-01-15\"",
        "\"0000-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"1970-01-01T00:00:00Z\"",
        "\"1971-01-01T00:00:00Z\"",
        "\"2199-12-31T23:59:59.999999Z\"",
        "\"2200-01-01T00:00:00Z\"",
        "\"2200-01-01T00:30:00+01:00\"",
        "\"2026-01-15T10:30:00+25:00\"",
        "\"2026-01-15T10:30:00+05:30\"",
        "\"2026-01-15T10:30:00-23:59\"",
        "\"2026-01-15T10:30:00.Z\"",
        "\"1768473000\"",
        "\"1768473000.5\"",
        "\"1768473000123456789\"",
        "1768473000",
        "1768473000.123",
        "1768473000123",
        "1768473000123456",
        "1768473000123456789",
        "1.768473e9",
        "31535999",
        "31536000",
        "7258118399",
        "7258118400",
        "31536000000",
        "7258118399999",
        "-1",
        "0",
        "\"now\"",
        "\"2026-01-15T10:30:00\\u005a\"",
        "\"2027-01-15T10:30:00Z\"",
    ];
    let usual = (0u32..24, 0u32..60, 0u32..61, 0u32..1000, select(vec!["Z", "+00:00", "+01:00", "-08:00"]))
        .prop_map(|(hour, minute, second, milli, offset)| {
            format!("\"2026-01-14T{hour:02}:{minute:02}:{second:02}.{milli:03}{offset}\"")
        });
    prop_oneof![4 => usual, 1 => select(odd).prop_map(str::to_owned)]
}

fn level() -> impl Strategy<Value = String> {
    let usual = vec!["\"INFO\"", "\"ERROR\"", "\"WARN\"", "\"DEBUG\""];
    let odd = vec![
        "\"info\"",
        "\"Information\"",
        "\"warning\"",
        "\"err\"",
        "\"CRITICAL\"",
        "\"alert\"",
        "\"emergency\"",
        "\"panic\"",
        "\"notice\"",
        "\"verbose\"",
        "\"Trace\"",
        "\"fatal\"",
        "\"INFO2\"",
        "\"\"",
        "\" info \"",
        "\"informational\"",
        "\"informationale\"",
        "\"loud\"",
        "3",
        "\"3\"",
        "\"\\u0049NFO\"",
        "\"ïnfo\"",
    ];
    prop_oneof![8 => select(usual), 2 => select(odd)].prop_map(str::to_owned)
}

/// One member of the outermost object.
fn member() -> impl Strategy<Value = (String, String)> {
    let keys = vec![
        "timestamp",
        "level",
        "service",
        "host",
        "message",
        "metadata",
        "trace_id",
        "Level",
        "",
        "messag",
        "timestampx",
    ];
    let odd_keys =
        vec!["\\u0074imestamp", "l\\u0065vel", "mess\\nage", "\\ud800", "a\\\"b", "service\\u0000"];
    let key = prop_oneof![12 => select(keys), 1 => select(odd_keys)].prop_map(str::to_owned);
    (key, value())
}

/// The members of a log in their usual order, some of them odd.
fn usual_members() -> impl Strategy<Value = Vec<(String, String)>> {
    let text = || prop_oneof![12 => string(), 1 => value()];
    let metadata = prop_oneof![
        3 => Just("{\"request_id\":\"abc-123\",\"user_id\":\"user-456\",\"duration_ms\":5000}".to_owned()),
        5 => value(),
    ];
    (timestamp(), level(), text(), text(), text(), metadata).prop_map(
        |(timestamp, level, service, host, message, metadata)| {
            let values = [timestamp, level, service, host, message, metadata];
            let keys = ["timestamp", "level", "service", "host", "message", "metadata"];
            keys.iter().map(|key| (*key).to_owned()).zip(values).collect()
        },
    )
}

/// What is done to the members of a log.
#[derive(Debug, Clone)]
enum Change {
    Remove(Index),
    Insert(Index, (String, String)),
    Swap(Index, Index),
    Repeat(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => any::<Index>().prop_map(Change::Remove),
        2 => (any::<Index>(), member()).prop_map(|(at, member)| Change::Insert(at, member)),
        3 => any::<(Index, Index)>().prop_map(|(a, b)| Change::Swap(a, b)),
        1 => any::<Index>().prop_map(Change::Repeat),
    ]
}

fn changed(mut members: Vec<(String, String)>, changes: Vec<Change>) -> Vec<(String, String)> {
    for change in changes {
        if members.is_empty() {
            return members;
        }
        let count = members.len();
        match change {
            Change::Remove(at) => drop(members.remove(at.index(count))),
            Change::Insert(at, member) => members.insert(at.index(count), member),
            Change::Swap(a, b) => members.swap(a.index(count), b.index(count)),
            Change::Repeat(at) => members.push(members[at.index(count)].clone()),
        }
    }
    members
}

/// What is done to the bytes.
#[derive(Debug, Clone)]
enum Damage {
    Remove(Index),
    Insert(Index, u8),
    Replace(Index, u8),
    Truncate(Index),
    Append(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = || prop_oneof![3 => select(b"\"\\{}[]:, \n\t\0\x1f0-1eEn/u.".to_vec()), 1 => any::<u8>()];
    prop_oneof![
        2 => any::<Index>().prop_map(Damage::Remove),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        1 => any::<Index>().prop_map(Damage::Truncate),
        1 => byte().prop_map(Damage::Append),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            return bytes;
        }
        let count = bytes.len();
        match damage {
            Damage::Remove(at) => drop(bytes.remove(at.index(count))),
            Damage::Insert(at, byte) => bytes.insert(at.index(count), byte),
            Damage::Replace(at, byte) => bytes[at.index(count)] = byte,
            Damage::Truncate(at) => bytes.truncate(at.index(count)),
            Damage::Append(byte) => bytes.push(byte),
        }
    }
    bytes
}

/// A payload.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(change(), 1..4)];
    let damages = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(damage(), 1..4)];
    let spaces = prop_oneof![3 => Just(vec![""; 8]), 1 => prop::collection::vec(space(), 8)];
    (usual_members(), changes, spaces, damages).prop_map(|(members, changes, spaces, damages)| {
        let members: Vec<String> = changed(members, changes)
            .iter()
            .map(|(key, value)| {
                format!("{}\"{key}\"{}:{}{value}{}", spaces[0], spaces[1], spaces[2], spaces[3])
            })
            .collect();
        let text = format!("{}{{{}{}{}}}{}", spaces[4], spaces[5], members.join(","), spaces[6], spaces[7]);
        damaged(text.into_bytes(), damages)
    })
}
