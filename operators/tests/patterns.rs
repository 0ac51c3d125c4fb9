//! Patterns, from outside: what must hold of any stream, and how well real logs are grouped.

#[path = "patterns_support/accuracy.rs"]
mod accuracy;
#[path = "patterns_support/streams.rs"]
mod streams;

use compact_str::CompactString;
use rand::seq::SliceRandom as _;
use smartlog_operators::breakdown::{Counts, Gathered, Tally};
use smartlog_operators::patterns::{Miner, Mining, Pattern, PatternId, Settings, Shape, exemplar};
use smartlog_schema::level::Level;
use smartlog_schema::pattern::{KnownShape, OTHER_SHAPE, PatternChanges};
use std::collections::{BTreeMap, HashMap, HashSet};
use streams::{Message, random};

fn mined(messages: &[Message], settings: Settings) -> Miner {
    let mut miner = Miner::new(settings);
    for message in messages {
        miner.observe(&message.text, message.at_us, Some(message.level));
    }
    miner.settle();
    miner
}

fn templates(messages: &[&str]) -> Vec<String> {
    let mut miner = Miner::new(Settings::default());
    for (at_us, message) in (0..).zip(messages) {
        miner.observe(message, at_us, None);
    }
    miner.settle();
    let mut templates: Vec<String> = miner.patterns().into_iter().map(|pattern| pattern.template).collect();
    templates.sort();
    templates
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    for seed in 0..6 {
        let mut rng = random(seed);
        let mut messages = streams::messages(&mut rng, 3_000);
        let expected = mined(&messages, Settings::default()).patterns();
        assert!(expected.len() > 20, "seed {seed}: too few patterns to tell anything");
        messages.shuffle(&mut rng);
        let mut miner = Miner::new(Settings::default());
        for (place, message) in messages.iter().enumerate() {
            miner.observe(&message.text, message.at_us, Some(message.level));
            if place % 257 == 0 {
                miner.settle();
            }
        }
        miner.settle();
        assert_eq!(miner.patterns(), expected, "seed {seed}");
    }
}

#[test]
fn many_miners_merged_are_one() {
    for seed in 0..5 {
        let mut rng = random(seed);
        let messages = streams::messages(&mut rng, 3_000);
        let expected = mined(&messages, Settings::default()).patterns();
        let mut miners = vec![Miner::new(Settings::default()); 3];
        for (place, message) in messages.iter().enumerate() {
            miners[place % 3].observe(&message.text, message.at_us, Some(message.level));
        }
        miners[1].settle();
        let mut whole = Miner::new(Settings::default());
        miners.into_iter().for_each(|miner| whole.merge(miner));
        whole.settle();
        assert_eq!(whole.patterns(), expected, "seed {seed}");
    }
}

#[test]
fn a_restart_changes_nothing() {
    for seed in 0..5 {
        let messages = streams::messages(&mut random(seed), 3_000);
        let expected = mined(&messages, Settings { max_patterns: 60 });
        let mut miner = Miner::new(Settings { max_patterns: 60 });
        for (place, message) in messages.iter().enumerate() {
            miner.observe(&message.text, message.at_us, Some(message.level));
            if place % 700 == 0 {
                let stored = bincode::serialize(&miner).expect("a miner can be stored");
                miner = bincode::deserialize::<Miner>(&stored).expect("and read again").restored();
            }
        }
        miner.settle();
        assert_eq!((miner.patterns(), miner.other()), (expected.patterns(), expected.other()), "seed {seed}");
        let mut shape = Shape::default();
        for message in &messages {
            shape.read(&message.text);
            assert_eq!(miner.find(&shape), expected.find(&shape), "seed {seed}: {}", message.text);
        }
    }
}

/// Counts by level and in all, from the messages and from what the miner says.
fn totals(patterns: &[Pattern], miner: &Miner) -> (u64, [u64; 6]) {
    let all = || patterns.iter().map(|pattern| pattern.stats).chain([*miner.other()]);
    let mut levels = [0; 6];
    all().for_each(|stats| levels.iter_mut().zip(stats.levels).for_each(|(sum, count)| *sum += count));
    (all().map(|stats| stats.logs).sum(), levels)
}

#[test]
fn patterns_and_other_are_all_logs_whatever_is_forgotten() {
    for seed in 0..4 {
        for max_patterns in [1, 7, 40, 1_000] {
            let messages = streams::messages(&mut random(seed), 6_000);
            let mut miner = Miner::new(Settings { max_patterns });
            let mut levels = [0; 6];
            for (place, message) in messages.iter().enumerate() {
                miner.observe(&message.text, message.at_us, Some(message.level));
                levels[message.level as usize] += 1;
                if place % 501 == 0 {
                    miner.settle();
                    let logs = place as u64 + 1;
                    assert_eq!(totals(&miner.patterns(), &miner), (logs, levels), "seed {seed}");
                    assert!(miner.patterns().len() <= max_patterns);
                    assert!(miner.shapes() <= max_patterns * 8 + 64, "{} shapes", miner.shapes());
                }
            }
        }
    }
}

#[test]
fn moves_tell_where_the_logs_of_a_shape_count() {
    for seed in 0..5 {
        let messages = streams::messages(&mut random(seed), 6_000);
        let mut miner = Miner::new(Settings { max_patterns: 30 });
        let mut pattern_of: HashMap<u64, Option<PatternId>> = HashMap::new();
        let mut generalised = 0;
        for (place, message) in messages.iter().enumerate() {
            miner.observe(&message.text, message.at_us, Some(message.level));
            if place % 250 != 0 {
                continue;
            }
            for moved in miner.settle() {
                let known = pattern_of.insert(moved.shape, moved.to).flatten();
                assert!(
                    moved.from.is_none() || moved.from == known,
                    "seed {seed}: it must leave where it was"
                );
                generalised += usize::from(moved.from.is_some() && moved.to.is_some());
            }
            let mut shape = Shape::default();
            for message in &messages[..=place] {
                let hash = shape.read(&message.text);
                if let Some(pattern) = miner.pattern_of(hash) {
                    assert_eq!(pattern_of.get(&hash), Some(&Some(pattern)), "seed {seed}: {}", message.text);
                }
            }
        }
        assert!(generalised > 0, "seed {seed}: no template generalised, so nothing was tested");
    }
}

#[test]
fn a_shape_is_found_by_its_words_where_the_table_has_it() {
    let messages = streams::messages(&mut random(5), 5_000);
    let miner = mined(&messages, Settings::default());
    let mut shape = Shape::default();
    let mut elsewhere = 0;
    for message in &messages {
        let hash = shape.read(&message.text);
        let (found, known) = (miner.find(&shape), miner.pattern_of(hash));
        assert!(found.is_some() && known.is_some(), "{}", message.text);
        elsewhere += usize::from(found != known);
    }
    // Sentences of words alone may lie in two templates: one has them, the other would cover them as well.
    assert!(elsewhere * 50 < messages.len(), "{elsewhere} of {} are found elsewhere", messages.len());
    shape.read("Failed login of user neverseen from 10.9.8.7");
    assert!(miner.find(&shape).is_some(), "a name that was never seen belongs to the template of names");
}

#[test]
fn levels_and_states_are_never_values() {
    let words = [
        "started",
        "stopped",
        "failed",
        "succeeded",
        "opened",
        "closed",
        "enabled",
        "disabled",
        "up",
        "down",
        "online",
        "offline",
        "connected",
        "disconnected",
        "accepted",
        "rejected",
        "true",
        "false",
        "ERROR",
        "WARN",
        "INFO",
        "DEBUG",
        "FATAL",
        "TRACE",
        "CRITICAL",
        "paused",
        "resumed",
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "healthy",
        "unhealthy",
        "active",
        "inactive",
        "locked",
        "unlocked",
        "ok",
        "timeout",
        "expired",
        "denied",
        "granted",
        "ready",
        "pending",
    ];
    for frame in [
        "replica {} of cluster main",
        "status={} component=disk",
        "user {} on node",
        "[{}] the job",
        "it is {}",
    ] {
        let messages: Vec<String> = words.iter().map(|word| frame.replace("{}", word)).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let templates = templates(&messages);
        assert_eq!(templates.len(), words.len(), "{frame}: {templates:?}");
    }
}

#[test]
fn shapes_mask_values_and_nothing_else() {
    let mut shape = Shape::default();
    for (message, expected) in [
        ("took 12 ms", "took <*>"),
        ("took -1.5e3 seconds, then 7%", "took <*>, then <*>"),
        ("10.0.0.7:8080 and [::1]:80 and db-7.example.com:5432", "<*> and [<*>]:<*> and <*>"),
        ("at Tue Jul 12 04:03:00 2005 UTC", "at <*>"),
        ("at 2026-01-15T10:30:00.123Z", "at <*>"),
        ("Maybe May Day", "Maybe May Day"),
        ("GET /v2/a7/x?y=1 HTTP/1.1", "GET <*> HTTP/<*>"),
        ("see https://a.example/b?c=d.", "see <*>."),
        (r"loaded C:\Windows\a.dll twice", "loaded <*> twice"),
        ("id 550e8400-e29b-41d4-a716-446655440000 mac 0a:1b:2c:3d:4e:5f", "id <*> mac <*>"),
        ("mask ffffffff facade", "mask <*> facade"),
        ("block blk_-1608999687 of attempt_14_m_07_0", "block blk_<*> of attempt_<*>"),
        ("core.2275 on node-31", "core.<*> on node-<*>"),
        ("depth..........0", "depth<*>"),
        ("user= uid=0 tty=pts", "user=<*> uid=<*> tty=pts"),
        ("tag=\"two words\" mode=\"fast\"", "tag=<*> mode=fast"),
        ("Surface(name=Main View) gone", "Surface(name=<*>) gone"),
        ("from host () at noon", "from host (<*>) at noon"),
        ("clear() called", "clear() called"),
        ("read/write isn't done", "read/write isn't done"),
        ("Fan ( 3552 3534 3375 )", "Fan ( <*> )"),
        ("mail to ann.b7@example.org", "mail to <*>"),
        ("ошибка 5", "ошибка <*>"),
        ("", ""),
    ] {
        shape.read(message);
        assert_eq!(shape.text(), expected, "{message}");
    }
}

#[test]
fn names_become_values_once_there_are_enough() {
    let logins = |names: &[&str]| {
        let messages: Vec<String> =
            names.iter().map(|name| format!("session opened for user {name} by root")).collect();
        templates(&messages.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(logins(&["ann", "bob"]).len(), 2, "two may be two kinds");
    assert_eq!(logins(&["ann", "bob", "cat"]), ["session opened for user <*> by root"]);
    let subjects = [
        "cron started fine",
        "sshd started fine",
        "nginx started fine",
        "mysqld started fine",
        "cups started fine",
    ];
    assert_eq!(templates(&subjects).len(), 5, "a first word is rarely a value");
}

#[test]
fn templates_of_different_length_merge_where_that_is_right() {
    let one = |messages: &[&str], template: &str| assert_eq!(templates(messages), [template]);
    one(&["members [ann, bob, cid] synced", "members [dan, eve] synced"], "members [<*>] synced");
    one(&["purged a.log b.log c.log", "purged d.log e.log"], "purged <*>");
    one(&["sizes 1, 2, 3 and 4", "sizes 1 and 4"], "sizes <*> and <*>");
    one(&["reg1=0x1 reg2=0x2", "reg1=0x1 reg2=0x2 reg3=0x3 reg4=0x4"], "reg<*>=<*>");
    one(&["took <1 sec", "took 00:17", "took 2.5 minutes", "took 30ms"], "took <*>");
    one(
        &[
            "Invalid user ann from home network",
            "Invalid user bob from home network",
            "Invalid user cat from home network",
            "Invalid user john q smith from home network",
        ],
        "Invalid user <*> from home network",
    );
    let apart = ["cache flushed", "cache flushed to disk", "cache flushed to disk again"];
    assert_eq!(templates(&apart).len(), 3, "sentences that go on differently are different");
}

#[test]
fn hostile_messages_are_bounded_and_sane() {
    let long = "x".repeat(64 << 10);
    let deep = "[".repeat(64 << 10);
    let wide = "a=1 ".repeat(16 << 10);
    let words: String = (0..20_000u32).map(|n| format!("w{} ", char::from(b'a' + (n % 26) as u8))).collect();
    let binary: String = (0..4096u32).filter_map(|n| char::from_u32(n * 37 % 0x11_0000)).collect();
    let trace =
        "java.lang.IllegalStateException: no\n\tat a.B.c(B.java:7)\n\tat d.E.f(E.java:9)\nCaused by: x";
    let same_trace = "java.lang.IllegalStateException: no\n\tat other.Place.here(Place.java:1)";
    let messages = [
        "",
        " ",
        "\n",
        "\0\0\0",
        &long,
        &deep,
        &wide,
        &words,
        &binary,
        trace,
        same_trace,
        "ошибка соединения 5",
        "エラー 12 件",
        "🦀🦀 7",
        r#"{"event":"login","user":"ann","n":{"a":[1,2,3]}}"#,
        "=",
        "==",
        ":",
        "::",
        "'",
        "\"",
        "a=\"",
        "a='b",
        "/",
        "//",
        "\\",
        "<*>",
        "<",
        ">",
        "[]",
        " ()",
        "(a=",
        "1:",
        ":1",
        "::1",
        "x=:",
        "—",
        "\u{feff}x",
        "a\r\nb",
        "%s %d",
    ];
    let mut miner = Miner::new(Settings::default());
    for (at_us, message) in (0..).zip(messages) {
        miner.observe(message, at_us, Some(Level::Error));
    }
    miner.settle();
    let patterns = miner.patterns();
    assert_eq!(patterns.iter().map(|pattern| pattern.stats.logs).sum::<u64>(), messages.len() as u64);
    for pattern in &patterns {
        assert!(pattern.template.len() <= 8 << 10, "{} bytes", pattern.template.len());
        assert!(pattern.example.len() <= 512);
        assert!(!pattern.template.contains(['\n', '\r', '\0']), "{:?}", pattern.template);
    }
    let mut shape = Shape::default();
    assert_eq!(shape.read(trace), shape.read(same_trace), "the first line is what happened");
    assert_ne!(shape.read("connection lost"), shape.read("connection found"));
}

#[test]
fn random_bytes_never_panic_and_shapes_are_stable() {
    for seed in 0..3_000 {
        let text = streams::noise(&mut random(seed));
        let (mut fresh, mut used) = (Shape::default(), Shape::default());
        used.read("something 1, 2, 3 else a.b c.d (x, y)");
        assert_eq!(fresh.read(&text), used.read(&text), "seed {seed}: {text:?}");
        assert_eq!(fresh.text(), used.text());
        let spans: usize = fresh.tokens().iter().map(|token| (token.end - token.start) as usize).sum();
        assert!(spans <= fresh.text().len() && fresh.tokens().len() <= 200, "seed {seed}");
    }
}

#[test]
fn real_logs_are_grouped_as_people_grouped_them() {
    let Some(sets) = accuracy::sets() else { return };
    let of = |(name, rows): &(String, Vec<accuracy::Row>)| {
        let mut miner = Miner::new(Settings::default());
        let shapes: Vec<u64> =
            (0..).zip(rows).map(|(at_us, row)| miner.observe(&row.content, at_us, None)).collect();
        miner.settle();
        let groups: Vec<Option<PatternId>> = shapes.iter().map(|&shape| miner.pattern_of(shape)).collect();
        let accuracy = accuracy::grouping_accuracy(rows, &groups);
        println!("{name:12} {accuracy:.4}");
        accuracy
    };
    let all: Vec<f64> = sets.iter().map(of).collect();
    let average = all.iter().sum::<f64>() / all.len() as f64;
    println!("average      {average:.4}");
    assert_eq!(all.len(), 8);
    assert!(average >= 0.97, "grouping accuracy fell to {average:.4}");
    assert!(all.iter().all(|&one| one >= 0.90), "grouping accuracy of one set fell: {all:?}");
}

/// Tables, kept as the stores keep them.
#[derive(Default)]
struct Tables {
    /// By shape: its pattern, the pattern's text, an example.
    shapes: BTreeMap<i64, (i64, String, String)>,
    /// Logs by shape and service.
    counts: BTreeMap<(i64, CompactString), i64>,
}

impl Tables {
    fn apply(&mut self, mut changes: PatternChanges) {
        changes.consolidate();
        for (shape, into) in changes.forgotten {
            self.shapes.remove(&shape);
            for ((_, service), logs) in
                self.counts.extract_if(.., |key, _| key.0 == shape).collect::<Vec<_>>()
            {
                *self.counts.entry((into, service)).or_default() += logs;
            }
        }
        for row in changes.shapes {
            let known = self.shapes.remove(&row.shape).map(|(.., example)| example);
            let example = row.example.or(known).expect("a new shape has an example");
            self.shapes.insert(row.shape, (row.template_id, row.template, example));
        }
        for row in changes.counts {
            *self.counts.entry((row.shape, row.service)).or_default() += row.logs;
        }
    }

    fn known(&self) -> Vec<KnownShape> {
        let known = |(&shape, (template_id, template, example)): (&i64, &(i64, String, String))| KnownShape {
            shape,
            template_id: *template_id,
            template: template.clone(),
            example: example.clone(),
            last_us: 0,
            services: self.counts.keys().filter(|key| key.0 == shape).map(|key| (key.1.clone(), 0)).collect(),
        };
        self.shapes.iter().map(known).collect()
    }
}

/// What workers gather of `messages` in one epoch; `told`: of which shapes they told a message.
fn gathered(messages: &[Message], told: &mut HashSet<u64>) -> Gathered {
    let mut shape = Shape::default();
    let (mut shapes, mut new) = (Vec::new(), Vec::new());
    for message in messages {
        let hash = shape.read(&message.text);
        let counts = Counts { logs: 1, errors: u64::from(message.level.is_error()) };
        shapes.push((hash, Tally { counts, first_us: message.at_us, last_us: message.at_us }));
        if told.insert(hash) {
            new.push((hash, exemplar(&message.text).to_owned()));
        }
    }
    let (hosts, seen) = (Vec::new(), Default::default());
    Gathered { service: "a".into(), minute: 0, hosts, shapes, messages: new, seen }
}

#[test]
fn stored_counts_are_all_logs_whatever_is_forgotten_merged_or_restarted() {
    for seed in 0..4 {
        for max_patterns in [1, 7, 40, 1_000] {
            let settings = Settings { max_patterns };
            let messages = streams::messages(&mut random(seed), 6_000);
            let (mut tables, mut mining) = (Tables::default(), Mining::new(settings, Vec::new()));
            let (mut told, mut waiting) = (HashSet::new(), PatternChanges::default());
            for (epoch, piece) in messages.chunks(113).enumerate() {
                waiting.merge(mining.take(vec![gathered(piece, &mut told)]).0);
                if epoch % 3 == 2 {
                    tables.apply(std::mem::take(&mut waiting));
                    let logs = tables.counts.values().sum::<i64>() as usize;
                    assert_eq!(
                        logs,
                        messages.len().min(113 * (epoch + 1)),
                        "seed {seed}, {max_patterns} patterns"
                    );
                    let has_row = |shape: &i64| *shape == OTHER_SHAPE || tables.shapes.contains_key(shape);
                    assert!(
                        tables.counts.keys().all(|(shape, _)| has_row(shape)),
                        "counts of a forgotten shape"
                    );
                    let limit = max_patterns * 8 + 64;
                    assert!(tables.shapes.len() <= limit, "{} shapes", tables.shapes.len());
                }
                if epoch % 12 == 11 {
                    // Killed: what was not applied is read again.
                    mining = Mining::new(settings, tables.known());
                    told.clear();
                }
            }
            if max_patterns == 1_000 {
                tables.apply(waiting);
                let whole = mined(&messages, Settings::default());
                for (shape, (id, ..)) in &tables.shapes {
                    assert_eq!(
                        whole.pattern_of(shape.cast_unsigned()).map(|id| id.0.cast_signed()),
                        Some(*id)
                    );
                }
            }
        }
    }
}

#[test]
fn an_exemplar_has_the_shape_of_its_message() {
    let long = format!("value {} and more", "x1 ".repeat(3_000));
    let cut = format!("{} é{}", "word ".repeat(818), "é".repeat(500));
    for message in ["", "  \n", "\n\n a b 7 \r\n at x", "plain", &long, &cut, "a\u{7f} b"] {
        let mut shape = Shape::default();
        assert_eq!(shape.read(exemplar(message)), shape.read(message), "{message:?}");
        assert!(exemplar(message).len() < 4_200);
    }
}
