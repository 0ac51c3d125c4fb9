//! The settings as a whole: every option in its three forms, the order of the layers, and the words of refusals.

use super::layers::Settings;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A password that must never be seen again.
const CANARY: &str = "s3cr3t-canary";

fn layers(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &[&str])],
) -> Result<Config, ConfigError> {
    load(file, environment, flags).map(|loaded| loaded.config)
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &[&str])]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    if !file.is_empty() {
        std::fs::write(folder.path().join(DEFAULT_FILE), file).expect("written");
    }
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Loaded::load(&Layers {
        file: None,
        folder: folder.path().to_path_buf(),
        environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        flags: flags.iter().map(|(key, values)| (option(key).expect("a key"), texts(values))).collect(),
        in_use: None,
    })
}

/// The refusal of `file` alone, without the folder's name.
fn refusal(file: &str) -> String {
    trimmed(&load(file, &[], &[]).expect_err(file).to_string())
}

fn trimmed(text: &str) -> String {
    let line = |line: &str| match line.find(DEFAULT_FILE) {
        Some(at) => line[at..].to_string(),
        None => line.trim().to_string(),
    };
    text.lines().skip(1).map(line).collect::<Vec<_>>().join("\n")
}

/// A value other than the default, as text, for any option: told by the form that the help shows for it.
fn sample(option: &OptionSpec) -> String {
    let text = match option.key.as_str() {
        "parse.level_numbers" => "python",
        "log.filter" => "debug",
        "redis.url" => "redis://me@cache:6379",
        "search.url" => "https://me@search:9200",
        "search.prefix" => "something-else",
        "generate.incident_kinds" => "silence",
        _ => match option.form.as_str() {
            "DURATION" => "17m",
            "SIZE" => "3 MiB",
            "ZONE" => "Europe/Berlin",
            "TIME" => "2026-01-15T10:30:00Z",
            "URL" => "postgres://me@db/logs",
            "IP:PORT" => "127.0.0.1:4321",
            "NUMBER" if option.default.as_deref() == Some("7") => "8",
            "NUMBER" => "7",
            "true|false" if option.default.as_deref() == Some("true") => "false",
            "true|false" => "true",
            "NAME=VALUE" | "NAME=FILE" => "x.y=z",
            "earliest|now|TIME" => "now",
            choices if choices.contains('|') => {
                let is_default = |choice: &&str| option.default.as_deref() == Some(&format!("\"{choice}\""));
                choices.rsplit('|').find(|choice| !is_default(choice)).unwrap_or_default()
            }
            _ => "something",
        },
    };
    text.to_string()
}

/// `sample` as it is written in the file.
fn in_file(option: &OptionSpec, text: &str) -> String {
    let value = match (option.kind, text.split_once('=')) {
        (Kind::Integer | Kind::Number | Kind::Bool, _) => text.to_string(),
        (Kind::List, _) => format!("[\"{text}\"]"),
        (Kind::Map, Some((name, value))) => format!("{{ \"{name}\" = \"{value}\" }}"),
        _ => format!("\"{text}\""),
    };
    format!("[{}]\n{} = {value}\n", option.section(), option.name())
}

/// The configuration from one layer alone, not judged as a whole: a sample value need not fit with the defaults.
fn from(add: impl FnOnce(&mut Settings)) -> Config {
    let mut settings = Settings::default();
    add(&mut settings);
    settings.into_config().map(|(config, _)| config).unwrap_or_else(|refused| panic!("{refused}"))
}

#[test]
fn every_option_can_be_set_by_file_variable_and_flag_alike() {
    for option in options() {
        let text = sample(option);
        let by_file = from(|settings| settings.add_file(Path::new("f.toml"), &in_file(option, &text)));
        assert_ne!(by_file, Config::default(), "{}: the sample must differ from the default", option.key);
        let by_flag = from(|settings| settings.add_flag(option, &[&text]));
        assert_eq!(by_flag, by_file, "--{} {text}", option.flag);
        let (variable, value) = match (option.kind, text.split_once('=')) {
            (Kind::Map, Some((name, value))) => {
                (format!("{}__{}", option.variable, name.replace('.', "_").to_uppercase()), value.to_string())
            }
            _ => (option.variable.clone(), text.clone()),
        };
        let by_variable = from(|settings| settings.add_environment([(variable.clone(), value.clone())]));
        assert_eq!(by_variable, by_file, "{variable}={value}");
    }
}

#[test]
fn no_two_options_share_a_key_a_flag_a_variable() {
    let distinct = |of: fn(&OptionSpec) -> &str| options().iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(|option| &option.key), options().len());
    assert_eq!(distinct(|option| &option.variable), options().len());
    assert_eq!(distinct(|option| &option.long_flag), options().len());
    assert!(options().len() > 80, "the table must not be empty: {}", options().len());
}

#[test]
fn every_option_says_what_it_is() {
    for option in options() {
        assert!(option.summary.len() > 10, "{} has no doc comment", option.key);
        assert!(option.summary.ends_with(['.', ':']), "{}: `{}`", option.key, option.summary);
    }
    for section in sections() {
        assert!(section.summary.len() > 8, "{} has no doc comment", section.name);
    }
}

#[test]
fn later_layers_beat_earlier_ones_key_by_key() {
    let file = "[time]\nretention = \"7d\"\nmax_lateness = \"3m\"\n[kafka]\ntopics = [\"a\", \"b\"]\n[engine]\nworkers = 3\n";
    let variables = [("SMARTLOG_TIME_RETENTION", "8d"), ("SMARTLOG_KAFKA_TOPICS", "c, d"), ("PATH", "/bin")];
    let flags: [(&str, &[&str]); 1] = [("time.retention", &["9d"])];
    let day = std::time::Duration::from_secs(86_400);

    let config = layers("", &[], &[]).expect("the defaults");
    assert_eq!(config, Config::default());
    let config = layers(file, &[], &[]).expect("the file");
    assert_eq!((config.time.retention, config.engine.worker_threads().get()), (7 * day, 3));
    let config = layers(file, &variables, &[]).expect("the file and variables");
    assert_eq!(config.time.retention, 8 * day);
    assert_eq!(config.time.max_lateness, day / 480, "what a later layer does not name stays");
    assert_eq!(config.kafka.topics, ["c", "d"], "a list is replaced, not added to");
    let config = layers(file, &variables, &flags).expect("all layers");
    assert_eq!(config.time.retention, 9 * day);
}

#[test]
fn maps_are_laid_over_each_other_entry_by_entry() {
    let file = "[kafka.properties]\n\"fetch.min.bytes\" = 1\n\"client.rack\" = \"a\"\n";
    let variables = [("SMARTLOG_KAFKA_PROPERTIES__CLIENT_RACK", "b")];
    let flags: [(&str, &[&str]); 1] = [("kafka.properties", &["socket.nagle.disable=true", "debug=a=b"])];
    let config = layers(file, &variables, &flags).expect("all layers");
    let expected =
        [("client.rack", "b"), ("debug", "a=b"), ("fetch.min.bytes", "1"), ("socket.nagle.disable", "true")];
    assert_eq!(config.kafka.properties.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let config =
        layers("", &[("SMARTLOG_KAFKA_BROKERS", ""), ("SMARTLOG_NONSENSE", "")], &[]).expect("no change");
    assert_eq!(config, Config::default());
}

#[test]
fn rust_log_beats_the_file_and_yields_to_our_own_variable_in_either_order() {
    let file = "[log]\nfilter = \"warn\"\n";
    let filter = |variables: &[(&str, &str)]| layers(file, variables, &[]).expect("valid").log.filter;
    assert_eq!(filter(&[]), "warn");
    assert_eq!(filter(&[("RUST_LOG", "debug")]), "debug");
    assert_eq!(filter(&[("RUST_LOG", "debug"), ("SMARTLOG_LOG_FILTER", "error")]), "error");
    assert_eq!(filter(&[("SMARTLOG_LOG_FILTER", "error"), ("RUST_LOG", "debug")]), "error");
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest() {
    let cases = [
        (
            "[kafka]\n\nbroker = \"x\"",
            "smartlog.toml, line 3: there is no setting `kafka.broker`; did you mean `kafka.brokers`?",
        ),
        (
            "[kafak]\nbrokers = \"x\"",
            "smartlog.toml, line 1: there is no setting `kafak`; did you mean `kafka`?",
        ),
        (
            "brokers = \"x\"",
            "smartlog.toml, line 1: there is no setting `brokers`; did you mean `kafka.brokers`?",
        ),
        (
            "[detection.baseline]\nlagg = \"1m\"",
            "smartlog.toml, line 2: there is no setting `detection.baseline.lagg`; did you mean `detection.baseline.lag`?",
        ),
        (
            "[engine]\nretention = \"1d\"",
            "smartlog.toml, line 2: there is no setting `engine.retention`; did you mean `time.retention`?",
        ),
        (
            "[output]\nqqqqqq = 1",
            "smartlog.toml, line 2: there is no setting `output.qqqqqq`; the keys of [output] are format; see docs/CONFIGURATION.md",
        ),
        ("log = \"debug\"", "smartlog.toml, line 1: `log` is a section: write [log] and its keys below"),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(file), expected);
    }
}

#[test]
fn all_misspelt_keys_are_told_at_once() {
    let told = refusal("[time]\nretenton = \"1d\"\n[store]\nurll = \"none\"\n");
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn unknown_variables_are_refused_and_those_of_others_are_not() {
    let told = |name: &str, value: &str| match layers("", &[(name, value)], &[]) {
        Ok(_) => "accepted".to_string(),
        Err(refused) => trimmed(&refused.to_string()),
    };
    assert_eq!(
        told("SMARTLOG_KAFKA_BROKER", "x"),
        "variable SMARTLOG_KAFKA_BROKER: there is no setting of this name; did you mean SMARTLOG_KAFKA_BROKERS?"
    );
    assert!(
        told("SMARTLOG_STORE", "none").ends_with("did you mean SMARTLOG_STORE_URL?"),
        "{}",
        told("SMARTLOG_STORE", "none")
    );
    assert!(told("SMARTLOG_WORKERS", "2").ends_with("did you mean SMARTLOG_ENGINE_WORKERS?"));
    assert!(told("SMARTLOG_QQQ_XXX", "2").contains("see docs/CONFIGURATION.md"));
    assert_eq!(
        told("SMARTLOG_KAFKA_PROPERTIES", "a=b"),
        "variable SMARTLOG_KAFKA_PROPERTIES: there is no setting of this name; \
         expected one variable for each entry, SMARTLOG_KAFKA_PROPERTIES__NAME, NAME with _ for each dot"
    );
    for (name, value) in [
        ("SMARTLOG_CONFIG", "x.toml"),
        ("SMARTLOG_TEST_KAFKA", "x"),
        ("SMARTLOG_SERVICES", "none"),
        ("SMARTLOG_CACHE", "x"),
        ("SMARTLOG_SHARED", "x"),
        ("SMARTLOG_SERVICE_HOST", "10.0.0.7"),
        ("SMARTLOG_SERVICE_PORT", "8000"),
        ("SMARTLOG_SERVICE_PORT_HTTP", "8000"),
        ("SMARTLOG_PORT", "tcp://10.0.0.7:8000"),
        ("SMARTLOG_API_PORT", "tcp://10.0.0.7:8000"),
        ("SMARTLOG_API_PORT_8000_TCP_ADDR", "10.0.0.7"),
        ("SMARTLOGGER", "x"),
    ] {
        assert_eq!(told(name, value), "accepted", "{name}={value}");
    }
}

#[test]
fn values_that_cannot_be_read_are_told_with_place_and_example() {
    let cases = [
        (
            "[engine]\ntick = 5",
            "smartlog.toml, line 2: `engine.tick`: expected a duration with its unit, such as 100ms, 5s, 10m, 6h or 30d, found `5`",
        ),
        (
            "[engine]\n\ntick = \"5 parsecs\"",
            "smartlog.toml, line 3: `engine.tick`: expected a duration with its unit, such as 100ms, 5s, 10m, 6h or 30d, found `5 parsecs`",
        ),
        (
            "[engine]\nmax_in_flight_bytes = \"lots\"",
            "smartlog.toml, line 2: `engine.max_in_flight_bytes`: expected a size in bytes, such as 16 MiB, 512 KiB or 65536, found `lots`",
        ),
        (
            "[kafka]\nstart = \"yesterday\"",
            "smartlog.toml, line 2: `kafka.start`: expected `earliest`, `now` or a time such as 2026-01-15T10:30:00Z, found `yesterday`",
        ),
        (
            "[parse]\nformat = \"elastic\"",
            "smartlog.toml, line 2: `parse.format`: unknown variant `elastic`, expected one of `default`, `ecs`, `otel`, `gcp`, `pino`",
        ),
        (
            "[engine]\nworkers = 0",
            "smartlog.toml, line 2: `engine.workers`: invalid value: integer `0`, expected a nonzero usize",
        ),
        (
            "[api]\nlisten = \"localhost\"",
            "smartlog.toml, line 2: `api.listen`: invalid socket address syntax",
        ),
        (
            "[kafka]\ntopics = [\"a\", 3]",
            "smartlog.toml, line 2: `kafka.topics`: invalid type: integer `3`, expected a string",
        ),
        (
            "[store]\nurl = \"mysql://me@db\"",
            "smartlog.toml, line 2: `store.url`: expected postgres://USER@HOST/DATABASE, sqlite:FILE or none, found `mysql:...`",
        ),
        ("[kafka\n", "smartlog.toml, line 1: not TOML: unclosed table, expected `]`"),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(file), expected);
    }
    let told =
        |name: &str, value: &str| trimmed(&layers("", &[(name, value)], &[]).expect_err(value).to_string());
    assert_eq!(
        told("SMARTLOG_ENGINE_WORKERS", "two"),
        "variable SMARTLOG_ENGINE_WORKERS: `engine.workers`: expected a whole number, found `two`"
    );
    assert_eq!(
        told("SMARTLOG_STORE_RAW_LOGS", "yes"),
        "variable SMARTLOG_STORE_RAW_LOGS: `store.raw_logs`: expected true or false, found `yes`"
    );
    let flags: [(&str, &[&str]); 1] = [("detection.hysteresis", &["much"])];
    let refused = layers("", &[], &flags).expect_err("no number");
    assert_eq!(
        trimmed(&refused.to_string()),
        "--detection-hysteresis: `detection.hysteresis`: expected a number, found `much`"
    );
    assert!(refused.is_usage(), "a flag alone is at fault");
    let both = layers("[time]\nx = 1", &[], &flags).expect_err("two faults");
    assert!(!both.is_usage(), "the file is at fault too");
}

#[test]
fn combinations_that_cannot_work_are_refused_with_what_to_do() {
    let cases = [
        ("[kafka]\ntopics = []", "`kafka.topics`: empty; name one topic at least"),
        ("[kafka]\ntopics = [\"a\", \"b\", \"a\"]", "`kafka.topics`: `a` is named twice; name it once"),
        (
            "[kafka]\ntopics = [\"a b\"]",
            "`kafka.topics`: `a b` is no topic's name: letters, digits, `.`, `_`, `-`, up to 249",
        ),
        (
            "[kafka.properties]\n\"auto.offset.reset\" = \"latest\"",
            "`kafka.properties`: `auto.offset.reset` is not to be set: set kafka.start; a gap is reported, never skipped in silence",
        ),
        (
            "[engine]\nprocesses = 2",
            "`engine.processes`: 2 processes cannot share the SQLite store `sqlite:smartlog.db`; set store.url to a PostgreSQL database",
        ),
        (
            "[store]\nurl = \"none\"\n[engine]\nprocesses = 2\nprocess = 2\nhostfile = \"x\"",
            "`engine.process`: 2; with engine.processes = 2 the last one is 1",
        ),
        (
            "[store]\nurl = \"none\"\n[engine]\nprocesses = 2\nprocess = 1",
            "`engine.process`: needs engine.hostfile, the addresses of all processes",
        ),
        (
            "[engine]\nhostfile = \"x\"",
            "`engine.hostfile`: needs engine.process, which line of it this process is",
        ),
        (
            "[engine]\nprocess = 0\nhostfile = \"/dev/null/absent\"",
            "`engine.hostfile`: /dev/null/absent cannot be read: Not a directory",
        ),
        ("[engine]\ntick = \"1m\"", "`engine.tick`: 60s; must lie between 10ms and 10s"),
        (
            "[parse]\nmax_record_bytes = \"10 MiB\"",
            "`parse.max_record_bytes`: more than half of engine.max_in_flight_bytes (16777216 bytes): hardly one would find room; raise that, or lower this",
        ),
        ("[parse]\nlevel_numbers = \"java\"", "`parse.level_numbers`: unknown variant `java`"),
        (
            "[time]\nwatermark_delay = \"1500ms\"",
            "`time.watermark_delay`: 1.5s; must be whole seconds, 100 years at most",
        ),
        (
            "[time]\nmax_lateness = \"1s\"",
            "`time.max_lateness`: 1s, less than time.watermark_delay (5s); raise this or lower that",
        ),
        (
            "[store]\npassword_file = \"x\"",
            "`store.password_file`: only PostgreSQL asks for one, and store.url is `sqlite:smartlog.db`",
        ),
        (
            "[store]\npipeline = \"a/b\"",
            "`store.pipeline`: `a/b`; use 1 to 63 letters, digits, `.`, `_`, `-`",
        ),
        (
            "[metrics]\nlisten = \"127.0.0.1:8000\"",
            "`metrics.listen`: 127.0.0.1:8000 is api.listen too; give it another port",
        ),
        ("[log]\nfilter = \"loud=very\"", "`log.filter`: `loud=very`: error parsing level filter"),
        ("[windows]\nhop = \"250ms\"", "`windows.hop`: 250ms; must be whole seconds, one at least"),
    ];
    assert_refused(&cases);
}

/// Each file, and what its one line says.
fn assert_refused(cases: &[(&str, &str)]) {
    for (file, expected) in cases {
        let told = refusal(file);
        assert!(told.contains(expected), "{file}\n  expected {expected}\n  found    {told}");
        assert_eq!(told.lines().count(), 1, "one fault, one line: {told}");
    }
}

#[test]
fn settings_of_detection_that_cannot_work_are_refused_with_what_to_do() {
    assert_refused(&[
        (
            "[detection.log_volume_drop.window]\nratio = 2",
            "`detection.log_volume_drop.window.ratio`: 2; must lie between 0 and 1",
        ),
        (
            "[detection.services]\n\"a.b.log_volume_spike.window.ratio\" = 1",
            "`detection.services`: `a.b.log_volume_spike.window.ratio`: 1; must be more than 1",
        ),
        (
            "[detection.services]\n\"a.log_volume_spike.window.rate\" = 1",
            "`detection.services`: `a.log_volume_spike.window.rate`: there is no setting \
             `detection.log_volume_spike.window.rate`",
        ),
        (
            "[detection.services]\n\"a.spike.ratio\" = 1",
            "`detection.services`: `a.spike.ratio`: expected SERVICE.RULE.KEY, where RULE is error_rate_spike, \
             log_volume_spike, log_volume_drop, new_pattern",
        ),
        (
            "[detection.services]\n\"a.error_rate_spike.min_errors\" = \"few\"",
            "`detection.services`: `a.error_rate_spike.min_errors`: expected a number, true or false, found `few`",
        ),
        (
            "[detection.new_pattern]\nburst_ratio = 1",
            "`detection.new_pattern.burst_ratio`: 1; must be more than 1",
        ),
        (
            "[detection.services]\n\"a.new_pattern.min_errors\" = 0",
            "`detection.services`: `a.new_pattern.min_errors`: 0; must be 1 at least",
        ),
        ("[detection]\nhysteresis = nan", "`detection.hysteresis`: NaN; must be more than 0 and 1 at most"),
    ]);
}

#[test]
fn sections_that_a_command_does_not_use_are_not_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "[store]\nurl = \"postgres://me@db/x\"\npassword_file = \"/dev/null/absent\"\n[engine]\ntick = \"1m\"\n";
    std::fs::write(folder.path().join(DEFAULT_FILE), file).expect("written");
    let load = |in_use| Loaded::load(&Layers { folder: folder.path().into(), in_use, ..Layers::default() });
    load(Some(&["generate", "log"])).expect("neither store nor engine is used");
    let told = load(Some(&["store"])).expect_err("no such file").to_string();
    assert!(told.contains("`store.password_file`: /dev/null/absent cannot be read"), "{told}");
    assert!(!told.contains("engine.tick"), "{told}");
}

#[test]
fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let layers = Layers { folder: folder.path().into(), ..Layers::default() };
    Loaded::load(&layers).expect("no file is no fault");
    let named = Layers { file: Some("/dev/null/x.toml".into()), ..layers };
    let told = Loaded::load(&named).expect_err("no such file").to_string();
    assert!(told.contains("/dev/null/x.toml: cannot be read: Not a directory"), "{told}");
    assert!(told.contains("check --config and SMARTLOG_CONFIG"), "{told}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{CANARY}@:/?#%\n")).expect("written");
    let password = password.to_str().expect("UTF-8");
    let file = format!(
        "[store]\nurl = \"postgres://me@db/logs?sslmode=require\"\npassword_file = \"{password}\"\n\
         [kafka.properties]\n\"sasl.oauthbearer.client.secret\" = \"{CANARY}\"\n\"sasl.username\" = \"me\"\n\
         [kafka.property_files]\n\"sasl.password\" = \"{password}\"\n\"ssl.ca.pem\" = \"{password}\"\n"
    );
    let loaded = load(&file, &[], &[]).expect("valid");
    let config = &loaded.config;
    assert_eq!(config.kafka.properties.get("sasl.password"), Some(format!("{CANARY}@:/?#%").as_str()));
    let url = config.store.connect_url().expect("a store");
    assert_eq!(
        url.expose(),
        "postgres://me@db/logs?sslmode=require&password=s3cr3t%2Dcanary%40%3A%2F%3F%23%25"
    );
    for shown in [format!("{loaded:?}"), format!("{config:#?}"), loaded.show(), format!("{url:?}")] {
        assert!(!shown.contains(CANARY) && !shown.contains("canary"), "{shown}");
    }
    assert!(loaded.show().contains("\"sasl.username\" = \"me\""), "{}", loaded.show());
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").expect("written");
    let file = format!("[kafka.property_files]\n\"sasl.password\" = \"{}\"\n", empty.display());
    assert!(refusal(&file).contains("`kafka.property_files`: `sasl.password`: "), "{}", refusal(&file));
}

#[test]
fn a_password_in_a_url_is_not_shown_wherever_it_stands() {
    for url in [
        format!("postgres://me:{CANARY}@db/logs"),
        format!("postgresql://me:{CANARY}@db:5432/logs?sslmode=require"),
        format!("postgres://me:{CANARY}?x@y/z@db/logs"),
        format!("postgres://me@db/logs?password={CANARY}"),
        format!("postgres://me@db/logs?sslmode=require&password={CANARY}&connect_timeout=3"),
        format!("postgres://:{CANARY}@db/logs"),
    ] {
        let loaded = load("", &[("SMARTLOG_STORE_URL", &url)], &[]).expect(&url);
        let shown = format!("{:?} {} {}", loaded, loaded.show(), loaded.config.store.url);
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(shown.contains("db"), "the host is shown: {shown}");
        assert_eq!(
            loaded.config.store.connect_url().expect("a store").expose(),
            url,
            "the client gets it whole"
        );
    }
    for url in [
        format!("mysql://me:{CANARY}@db/logs"),
        format!("postgres:me:{CANARY}@db"),
        format!("me:{CANARY}@db"),
    ] {
        let told = layers("", &[("SMARTLOG_STORE_URL", &url)], &[]).expect_err(&url).to_string();
        assert!(!told.contains(CANARY), "{told}");
    }
    let flags: [(&str, &[&str]); 1] = [("kafka.properties", &["sasl.password:s3cr3t-canary"])];
    let told = layers("", &[], &flags).expect_err("no =").to_string();
    assert!(told.ends_with("--property: `kafka.properties`: expected NAME=VALUE, found no `=`"), "{told}");
}

#[test]
fn a_password_both_in_url_and_file_is_refused() {
    let file = "[store]\nurl = \"postgres://me:x@db/logs\"\npassword_file = \"f\"\n";
    assert!(refusal(file).contains("store.url carries a password too"), "{}", refusal(file));
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_can_be_read_back() {
    let file = "[engine]\n\n\nworkers = 3\n[time]\nretention = \"45d\"\n";
    let flags: [(&str, &[&str]); 1] = [("kafka.topics", &["a", "b"])];
    let loaded = load(file, &[("SMARTLOG_STORE_PIPELINE", "two")], &flags).expect("valid");
    let shown = loaded.show();
    let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("workers = 3").ends_with("smartlog.toml, line 4"), "{shown}");
    assert!(line("retention = \"45d\"").ends_with("smartlog.toml, line 6"), "{shown}");
    assert!(line("pipeline = \"two\"").ends_with("# variable SMARTLOG_STORE_PIPELINE"), "{shown}");
    assert!(line("topics = [\"a\", \"b\"]").ends_with("# --topic"), "{shown}");
    assert!(line("max_services = 50000").ends_with("# default"), "{shown}");
    assert_eq!(layers(&shown, &[], &[]).expect("TOML"), loaded.config);
}

/// The text of a file of the repository, made anew first when REWRITE is set.
fn kept(path: &str, made: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, made).expect("written");
    }
    std::fs::read_to_string(&path)
        .unwrap_or_else(|fault| panic!("{}: {fault}; REWRITE=1 makes it", path.display()))
}

#[test]
fn the_example_file_is_what_the_code_says() {
    let made = example_file();
    assert!(
        kept("smartlog.example.toml", &made) == made,
        "smartlog.example.toml is stale: REWRITE=1 makes it anew"
    );
}

#[test]
fn the_example_file_gives_the_defaults_as_it_is_and_with_every_setting_taken_in() {
    let example = example_file();
    assert_eq!(layers(&example, &[], &[]).expect("as it is"), Config::default());
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let taken_in: Vec<&str> =
        example.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect();
    let set = taken_in.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    let with_default = options().iter().filter(|option| option.default.is_some()).count();
    assert_eq!(set, with_default, "every option with a default is there once");
    assert_eq!(layers(&taken_in.join("\n"), &[], &[]).expect("taken in"), Config::default());
    for option in options() {
        assert!(example.contains(option.name()), "{} is not in the example", option.key);
    }
}

const TABLE_BEGINS: &str = "<!-- settings: made from the code; REWRITE=1 cargo test makes them anew -->\n";
const TABLE_ENDS: &str = "<!-- end of settings -->\n";

#[test]
fn the_documentation_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let text = std::fs::read_to_string(&path).expect("docs/CONFIGURATION.md");
    let (before, rest) = text.split_once(TABLE_BEGINS).expect("the mark where the tables begin");
    let (_, after) = rest.split_once(TABLE_ENDS).expect("the mark where the tables end");
    let made = format!("{before}{TABLE_BEGINS}{}\n{TABLE_ENDS}{after}", reference_table());
    assert!(
        kept("docs/CONFIGURATION.md", &made) == made,
        "docs/CONFIGURATION.md is stale: REWRITE=1 makes it anew"
    );
}

#[test]
fn the_operators_get_their_own_defaults_back() {
    let config = Config::default();
    assert_eq!(config.time.settings(), smartlog_operators::settings::Time::default());
    assert_eq!(config.detection.settings(), smartlog_operators::settings::Detection::default());
    assert!(config.detection.of_services().expect("none").is_empty());
    assert_eq!(config.parse.mapping(), Ok(smartlog_operators::parse::FieldMapping::default()));
}

#[test]
fn properties_that_the_client_rests_on_are_all_refused() {
    for (name, _) in crate::sources::kafka_client::RESERVED {
        let told = refusal(&format!("[kafka.properties]\n\"{name}\" = \"x\"\n"));
        assert!(told.contains(&format!("`{name}` is not to be set")), "{told}");
    }
}

proptest! {
    #[test]
    fn durations_are_written_as_they_are_read(nanos in 0..u64::MAX) {
        let duration = std::time::Duration::from_nanos(nanos);
        let text = units::HumanDuration::format(duration);
        prop_assert_eq!(units::HumanDuration::parse(&text), Ok(duration), "{}", text);
    }

    #[test]
    fn sizes_are_written_as_they_are_read(bytes in prop_oneof![0..u64::MAX >> 12, (0..1_u64 << 13, 0..4_u32).prop_map(|(n, unit)| n << (10 * unit))]) {
        let text = units::HumanBytes::format(bytes);
        prop_assert_eq!(units::HumanBytes::parse(&text), Ok(bytes), "{}", text);
    }

    #[test]
    fn no_file_whatever_makes_it_panic(text in "[\\[\\]{}=\"'.,#a-z0-9_\\n \\\\é-]{0,200}") {
        let mut settings = Settings::default();
        settings.add_file(Path::new("f.toml"), &text);
        let _ = settings.into_config();
    }

    #[test]
    fn no_value_of_any_key_makes_it_panic(at in 0..1000_usize, text in "\\PC{0,30}", wild in "(true|-?[0-9]{1,20}|\\[\\]|\\{\\}|nan|inf|1979-05-27|\"x\")") {
        let option = &options()[at % options().len()];
        let _ = load(&format!("{} = {wild}", option.key), &[], &[]);
        let _ = load("", &[(option.variable.as_str(), &text)], &[]);
        let _ = load("", &[], &[(option.key.as_str(), &[text.as_str()])]);
    }

    #[test]
    fn a_letter_left_out_of_a_key_is_found_again(at in 0..1000_usize, cut in 0..1000_usize) {
        let option = &options()[at % options().len()];
        let name = option.name();
        prop_assume!(name.len() > 3);
        let mut wrong = name.to_string();
        wrong.remove(cut % name.len());
        let key = format!("{}.{wrong}", option.section());
        prop_assume!(super::option(&key).is_none());
        let told = refusal(&format!("{key} = 1"));
        prop_assert!(told.contains(&format!("did you mean `{}`?", option.key)), "{}", told);
    }
}

#[test]
fn a_service_has_what_is_its_own_and_the_rest_of_all() {
    let file = "[detection.log_volume_spike]\nmin_logs = 33\n[detection.services]\n\
                \"a.b.log_volume_spike.window.ratio\" = 4\n\"a.b.log_volume_drop.enabled\" = false\n\
                \"c.error_rate_spike.min_errors\" = 9\n";
    let flags: [(&str, &[&str]); 1] = [("detection.services", &["c.error_rate_spike.min_errors=11"])];
    let config = layers(file, &[], &flags).expect("loads");
    let services = config.detection.of_services().expect("valid");
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.b", "c"]);
    let common = config.detection.settings();
    let own = services["a.b"].settings();
    assert_eq!((own.log_volume_spike.window.ratio, own.log_volume_drop.enabled), (4.0, false));
    assert_eq!(own.log_volume_spike.min_logs, 33.0);
    assert_eq!(own.error_rate_spike, common.error_rate_spike);
    let c = services["c"].settings();
    assert_eq!(c.error_rate_spike.min_errors, 11);
    assert_eq!((c.log_volume_spike, c.log_volume_drop), (common.log_volume_spike, common.log_volume_drop));
}
