//! Kafka as most people have it: behind TLS and a login. What is wrong with either is told in words that can be acted on.

use smartlog_test_services::Service;
use smartlog_tests::judge::judge_all;
use smartlog_tests::program::{Program, binary_with_s3};
use smartlog_tests::scene::{MINUTE_US, PATIENCE, STOP};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{now_us, unique};
use std::path::PathBuf;

/// A broker behind TLS and a login, and a store whose folder holds the secrets.
struct Secured {
    kafka: Service,
    store: Store,
}

/// What a user says of the login.
struct Login<'a> {
    mechanism: &'a str,
    password: &'a str,
    /// `None`: what the system trusts.
    authority: Option<&'a str>,
}

impl Secured {
    fn create() -> Option<Self> {
        Some(Secured { kafka: Service::require("kafka")?, store: Store::create(Kind::Sqlite)? })
    }

    /// `command` on `topics` through the secured door.
    fn start(&self, command: &[&str], topics: &[&Topic], login: &Login<'_>) -> Program {
        let password: PathBuf = self.store.folder().join("password");
        std::fs::write(&password, format!("{}\n", login.password)).expect("a file in a temporary folder");
        let mut properties = vec![
            "security.protocol=sasl_ssl".to_owned(),
            format!("sasl.mechanism={}", login.mechanism),
            format!("sasl.username={}", self.kafka.variable("SASL_USER")),
        ];
        properties.extend(login.authority.map(|file| format!("ssl.ca.location={file}")));
        let mut arguments: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut add = |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
        add("--brokers", &self.kafka.variable("SASL"));
        add("--store", &self.store.url);
        topics.iter().for_each(|topic| add("--topic", &topic.name));
        properties.iter().for_each(|property| add("--property", property));
        add("--kafka-property-files", &format!("sasl.password={}", password.display()));
        Program::start_as(binary_with_s3(), &arguments, &[])
    }
}

fn topic(kafka: &Service, stem: &str, partitions: i32) -> Topic {
    let topic = Topic::create(&kafka.address(), &unique(stem), partitions);
    let mut traffic = Traffic::new(partitions as u64, partitions as usize);
    traffic.send(&topic, 2_000, (now_us() - 20 * MINUTE_US, now_us() - 10 * MINUTE_US));
    topic.flush();
    topic
}

#[test]
fn several_topics_are_read_through_tls_with_each_kind_of_login() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let Some(mut secured) = Secured::create() else { return };
        let topics = [topic(&secured.kafka, "one", 1), topic(&secured.kafka, "three", 3)];
        let topics: Vec<&Topic> = topics.iter().collect();
        let (password, authority) = (secured.kafka.variable("SASL_PASSWORD"), secured.kafka.variable("CA"));
        let login = Login { mechanism, password: &password, authority: Some(&authority) };
        secured.start(&["run", "--until-end", "--workers", "2"], &topics, &login).succeed(PATIENCE);
        let totals = judge_all(&mut secured.store, &topics, |_| {});
        assert_eq!(totals.logs + totals.dead_letters, 4_000, "{mechanism}");
    }
}

/// The broker's side may be what is wrong, so it waits: for each fault one line, which names what to set.
#[test]
fn what_keeps_it_out_is_said_once_with_what_to_set() {
    let Some(secured) = Secured::create() else { return };
    let topic = topic(&secured.kafka, "locked", 1);
    let (password, authority) = (secured.kafka.variable("SASL_PASSWORD"), secured.kafka.variable("CA"));
    let faults = [
        (
            Login { mechanism: "PLAIN", password: "n0t-this-one", authority: Some(&authority) },
            "refuses the login; set sasl.username, sasl.password",
        ),
        (
            Login { mechanism: "SCRAM-SHA-512", password: "n0t-this-one", authority: Some(&authority) },
            "refuses the login; set sasl.username, sasl.password",
        ),
        (
            Login { mechanism: "PLAIN", password: &password, authority: None },
            "cannot be trusted by TLS; set ssl.ca.location",
        ),
    ];
    for (login, words) in &faults {
        let mut program = secured.start(&["run"], &[&topic], login);
        program.wait_for_words(words, PATIENCE);
        let (_, advice) = words.split_once("; ").expect("what was found, and what to do");
        // A second fault would be said by the time that doctor has asked as well.
        let mut doctor = secured.start(&["doctor"], &[&topic], login);
        assert!(!doctor.wait(PATIENCE).success());
        assert!(doctor.printed().contains(advice), "{}{}", doctor.printed(), doctor.said());
        assert!(program.is_running(), "it gave up:\n{}", program.said());
        program.terminate();
        program.succeed(STOP);
        let said = program.said();
        assert_eq!(said.matches(words).count(), 1, "{said}");
        assert!(!said.contains(login.password) && !doctor.printed().contains(login.password), "{said}");
    }
}
