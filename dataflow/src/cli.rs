//! The command line: what commands there are, which settings each hears, and what its end means to a supervisor.
//!
//! ```text
//!   arguments ──clap──▶ Command + flags ──▶ config::Loaded ──▶ logging ──▶ commands::run ──▶ exit code
//!                        ▲
//!   config::options() ───┘  a flag for every setting of the sections that the command uses
//! ```

use crate::commands;
use crate::config::{
    Config, ConfigError, FILE_VARIABLE, Kind, Layers, Loaded, OptionSpec, in_words, is_in, options,
};
use crate::history::{From, Interval};
use crate::logging;
use crate::telemetry;
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use smartlog_sinks::parquet::Day;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What an end of the program means, as sysexits.h has it.
pub mod exit {
    /// It failed while running: the message on stderr says at what.
    pub const FAILURE: u8 = 1;
    /// The command line was not understood.
    pub const USAGE: u8 = 2;
    /// Another process of the set ended: restart the whole set.
    pub const RESTART_SET: u8 = 75;
    /// The configuration was refused: a restart alone mends nothing.
    pub const CONFIG: u8 = 78;
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done, or stopped by SIGTERM or SIGINT with everything committed
  1   failed; stderr says at what
  2   the command line was not understood
  75  another process of the set ended: restart the whole set
  78  the configuration was refused: restarting alone mends nothing

Settings: defaults < smartlog.toml < variables SMARTLOG_… < flags. docs/CONFIGURATION.md lists them all.";

/// Stream-processing log analyser: logs from Kafka in, anomalies out, every log exactly once.
#[derive(Debug, Parser)]
#[command(name = "smartlog", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// File with settings [default: smartlog.toml, where there is one] [variable: SMARTLOG_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings in force and where each comes from, and end
    #[arg(long, global = true)]
    pub show_config: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can be told to do. Adding one: an entry here, in `Command::SECTIONS` and in
/// [`commands::run_command`].
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, with made-up logs: broker, dataflow, store, page on http://localhost:8000
    #[command(after_help = "\
Examples:
  smartlog demo
  smartlog demo --rate 5000 --listen 127.0.0.1:8080
  smartlog demo --for 60s --format json     # ends by itself, with a summary")]
    Demo,
    /// Read Kafka, keep windows, raise anomalies, store every log exactly once
    #[command(after_help = "\
Examples:
  smartlog run --brokers kafka-1:9092,kafka-2:9092 --topic logs --store postgres://smartlog@db/logs
  smartlog run --topic logs --topic audit --workers 2
  smartlog run --until-end --store none --windows-out windows.csv --hop 10s
  smartlog run --processes 2 --store postgres://smartlog@db/logs      # two processes on this host
  smartlog run --processes 2 --process 0 --hostfile hosts.txt         # one of two, on two hosts
  smartlog run --property security.protocol=sasl_ssl --config /etc/smartlog.toml")]
    Run,
    /// Serve the REST API and the live page from the store
    #[command(after_help = "\
Examples:
  smartlog api --store postgres://smartlog@db/logs
  smartlog api --listen 127.0.0.1:8080
  smartlog api token --name ops --scope read --scope feedback")]
    Api(ApiArgs),
    /// Make up logs of a micro-service estate, with known incidents
    #[command(after_help = "\
Examples:
  smartlog generate | head -n 10
  smartlog generate --to kafka --brokers localhost:9092 --topic logs --rate 5000
  smartlog generate --to logs.ndjson.zst --for 24h --speed 0 --incidents auto --labels labels.json")]
    Generate,
    /// The same dataflow over files or stdin at full speed, no service needed
    #[command(after_help = "\
Examples:
  smartlog analyze app.log.gz
  smartlog analyze part-0.ndjson part-1.ndjson --workers 2 --format json | jq .description
  kubectl logs deploy/shop | smartlog analyze -
  smartlog analyze app.ndjson --input-format ecs --windows-out windows.csv --hop 1m")]
    Analyze(AnalyzeArgs),
    /// Write a day's logs to Parquet anew from the store, or compare store and files
    #[command(after_help = "\
Examples:
  smartlog export --date 2026-01-15
  smartlog export --date 2026-01-15 --to s3://my-logs/lake --store postgres://smartlog@db/logs
  smartlog export --verify 2026-01-15 --format json

`run --export TARGET` exports every log by itself; this replaces one day.
Ends with 1 when --verify finds a difference.")]
    Export(ExportArgs),
    /// The kinds of messages in files or stdin: templates with counts, levels, times and an example
    #[command(after_help = "\
Examples:
  smartlog patterns app.ndjson.gz
  smartlog patterns --raw /var/log/syslog --top 20
  kubectl logs deploy/shop | smartlog patterns - --format json | jq -r .template
  smartlog patterns --raw messages.txt --assign | sort | uniq -c      # one pattern id per line")]
    Patterns(PatternsArgs),
    /// Bring the store's tables up to date (run does so by itself)
    #[command(after_help = "\
Examples:
  smartlog migrate --store postgres://smartlog@db/logs")]
    Migrate,
    /// Show and change where each sink stands in its input
    #[command(after_help = "\
Examples:
  smartlog sinks list
  smartlog sinks forget parquet
  smartlog sinks set-start logs --at logs:0=1200 --at logs:1=1187
  smartlog sinks accept-topic logs          # after the topic was deleted and made anew")]
    Sinks(SinksArgs),
    /// Fit a model on history, track it, register it
    #[command(after_help = "\
Examples:
  smartlog train --from kafka --since 2026-01-08T00:00:00Z --register
  smartlog train --from postgres --store postgres://smartlog@db/logs --since 2026-01-08T00:00:00Z --alias champion
  smartlog train --from app.ndjson.zst --exclude 2026-01-15T10:00:00Z..2026-01-15T10:40:00Z
  smartlog train --from parquet --export ./lake --since 2026-01-08T00:00:00Z --exclude-expected
  smartlog train --from kafka --mlflow http://mlflow:5000 --alias challenger")]
    Train(TrainArgs),
    /// Make the decision of an episode again, from what was kept of it and the stored logs
    #[command(after_help = "\
Examples:
  smartlog replay 17
  smartlog replay --all --store postgres://smartlog@db/logs --format json
  smartlog replay 17 --from kafka --brokers kafka:9092             # the store keeps no logs

Ends with 1 when a decision is another one; says what differs, and which inputs are no longer there.")]
    Replay(ReplayArgs),
    /// Try rules or a model on history: which episodes come, go and stay
    #[command(after_help = "\
Examples:
  smartlog backtest --from postgres --store postgres://smartlog@db/logs --since 2026-01-08T00:00:00Z --rules new.toml
  smartlog backtest --from kafka --rules new.toml --store none     # against the settings in force
  smartlog backtest --from logs.ndjson.zst --labels labels.json --format json
  smartlog backtest --from parquet --export ./lake --model challenger

What was raised in the store is what it is compared with; a file, and --store none, with what the settings in force raise.")]
    Backtest(BacktestArgs),
    /// Show, promote, withdraw, push and compare models
    #[command(after_help = "\
Examples:
  smartlog models list
  smartlog models show champion
  smartlog models promote 4 --alias champion
  smartlog models withdraw challenger
  smartlog models push --mlflow http://mlflow:5000     # what was trained while the server was away
  smartlog models diff champion challenger --from app.ndjson.zst")]
    Models(ModelsArgs),
    /// Check each configured dependency; say what is wrong and how to mend it
    #[command(after_help = "\
Examples:
  smartlog doctor
  smartlog doctor --config /etc/smartlog.toml --format json
  smartlog doctor --aws --export s3://smart-log-analyzer-logs-me/     # docs/AWS_SETUP.md

Ends with 1 when a check failed. Warnings do not count.")]
    Doctor(DoctorArgs),
    /// Ask the process that runs on this host whether it is well, as supervisors of containers do
    #[command(after_help = "\
Examples:
  smartlog health
  smartlog health api
  smartlog health run --metrics-listen 127.0.0.1:9464

Prints the answer. Ends with 0 when it is well, else with 1.")]
    Health(HealthArgs),
    /// Watch a running pipeline in the terminal: throughput, lag, services, open episodes
    #[command(after_help = "\
Examples:
  smartlog top
  smartlog top --url https://logs.example.org --token-file /run/secrets/smartlog
  smartlog top --metrics-url http://127.0.0.1:9464/metrics
  smartlog top --once --format json | jq .flow")]
    Top(TopArgs),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What `smartlog doctor` looks at.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Look at AWS instead: identity, bucket, its notification, function, tables and budget
    #[arg(long)]
    pub aws: bool,
    /// Send a made-up alert by each webhook of alerts.hooks, and say what became of it
    #[arg(long)]
    pub send_test_alert: bool,
}

/// What `smartlog analyze` reads.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeArgs {
    /// Files of JSON lines, plain, .gz or .zst; several are read side by side, as partitions are; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
}

/// What `smartlog api` does besides serving.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    #[command(subcommand)]
    pub action: Option<ApiAction>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ApiAction {
    /// Make a token: prints its secret, and its line for api.tokens
    Token {
        /// Whose it is, as logs and feedback name them
        #[arg(long)]
        name: String,
        /// What it allows; may be repeated
        #[arg(long, default_values = ["read"], value_parser = ["read", "feedback"])]
        scope: Vec<String>,
    },
}

/// What `smartlog export` does.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Write this day (UTC) as a new generation, which replaces its files
    #[arg(long, value_name = "DAY", value_parser = commands::export::parse_day, conflicts_with = "verify")]
    pub date: Option<Day>,
    /// Compare this day's logs in the store with its files
    #[arg(long, value_name = "DAY", value_parser = commands::export::parse_day)]
    pub verify: Option<Day>,
    /// Another folder or s3://BUCKET/PREFIX than export.target
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    pub to: Option<String>,
    /// Replace the files although the store holds fewer logs of that day
    #[arg(long)]
    pub force: bool,
}

/// Which history a command reads.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// kafka; postgres, sqlite: the table logs of --store; parquet: the folder of --export; or a folder of exported
    /// Parquet, or a file of Parquet or JSON lines, plain, .gz or .zst
    #[arg(long, value_name = "SOURCE")]
    pub from: From,
    /// Use windows that begin at or after this
    #[arg(long, value_name = "TIME")]
    pub since: Option<jiff::Timestamp>,
    /// Use windows that end at or before this
    #[arg(long, value_name = "TIME")]
    pub until: Option<jiff::Timestamp>,
}

impl HistoryArgs {
    pub fn interval(&self) -> Interval {
        Interval { since: self.since, until: self.until }
    }
}

/// What `smartlog replay` decides again.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Ids of anomalies
    #[arg(required_unless_present = "all", value_name = "ID")]
    pub ids: Vec<i64>,
    /// Every anomaly of which something was kept
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Where the logs are read [default: store, or kafka where store.raw_logs is off]
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<ReplayFrom>,
}

impl ReplayArgs {
    /// Where the logs are read.
    pub fn from(&self, config: &Config) -> ReplayFrom {
        let usual = if config.store.raw_logs { ReplayFrom::Store } else { ReplayFrom::Kafka };
        self.from.unwrap_or(usual)
    }
}

/// Where logs of a decision are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReplayFrom {
    /// The table logs
    Store,
    /// The topics, up to the offsets that were known
    Kafka,
}

/// What `smartlog backtest` tries.
#[derive(Debug, Clone, Args)]
pub struct BacktestArgs {
    #[command(flatten)]
    pub history: HistoryArgs,
    /// File like smartlog.toml whose `detection` and `time` are tried [default: those in force]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Score with this model, an alias or a version's number, and let its scores raise episodes
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Labels of the incidents in it, as smartlog generate --labels writes them: tells precision and recall
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Also read this much before --since, for what is usual to be known by then
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
}

/// What `smartlog train` learns from.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub history: HistoryArgs,
    /// Leave out the windows that overlap this interval, as FROM..TO; may be repeated
    #[arg(long, value_name = "FROM..TO")]
    pub exclude: Vec<commands::train::LeftOut>,
    /// Leave out the windows that overlap an episode in the store
    #[arg(long)]
    pub exclude_anomalies: bool,
    /// Leave out the windows that overlap an episode in the store that people called expected
    #[arg(long)]
    pub exclude_expected: bool,
    /// Make a version of it
    #[arg(long)]
    pub register: bool,
    /// Make a version of it that this alias points to: champion or challenger
    #[arg(long, value_name = "ALIAS", value_parser = ["champion", "challenger"])]
    pub alias: Option<String>,
    /// Name of the run [default: train-TIME]
    #[arg(long)]
    pub name: Option<String>,
}

/// What `smartlog models` does.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub action: ModelsAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ModelsAction {
    /// Every version, the newest first
    List,
    /// Params, metrics and forests of a version
    Show {
        /// An alias, or a version's number
        model: String,
    },
    /// Point an alias to a version: smartlog run takes it over
    Promote {
        /// An alias, or a version's number
        model: String,
        #[arg(long, default_value = "champion", value_parser = ["champion", "challenger"])]
        alias: String,
    },
    /// Take an alias away; a champion serves on until there is another
    Withdraw {
        #[arg(value_parser = ["champion", "challenger"])]
        alias: String,
    },
    /// Bring what was trained while the MLflow server was away to it
    Push,
    /// Replay a history and list what the second model raises that the first does not, and the other way round
    Diff(DiffArgs),
}

/// What `smartlog models diff` compares.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// An alias, or a version's number
    pub a: String,
    /// An alias, or a version's number
    pub b: String,
    #[command(flatten)]
    pub history: HistoryArgs,
}

/// Whom `smartlog health` asks.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// The process at metrics.listen, or the one at api.listen; unset: whichever answers
    pub role: Option<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// `smartlog run`
    Run,
    /// `smartlog api`
    Api,
}

/// How `smartlog top` shows it.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Print one frame and end
    #[arg(long)]
    pub once: bool,
}

/// What `smartlog patterns` reads, and what it prints.
#[derive(Debug, Clone, Args)]
pub struct PatternsArgs {
    /// Files of JSON lines, plain, .gz or .zst; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Every line is a message, as it stands
    #[arg(long)]
    pub raw: bool,
    /// Print the pattern of every line, in order, instead of the patterns
    #[arg(long)]
    pub assign: bool,
    /// Show only the most frequent; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub top: usize,
}

/// What `smartlog sinks` does.
#[derive(Debug, Clone, Args)]
pub struct SinksArgs {
    #[command(subcommand)]
    pub action: SinksAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum SinksAction {
    /// Every sink's position in every partition
    List,
    /// Drop the positions of a sink that was removed
    Forget {
        /// Name of the sink, as `smartlog sinks list` shows it
        sink: String,
    },
    /// Set where a sink begins, whether it has a position or not: what lies between is left out, or written twice
    SetStart {
        /// Name of the sink, as `smartlog sinks list` shows it
        sink: String,
        /// Next offset to read of a partition, as TOPIC:PARTITION=OFFSET; may be repeated
        #[arg(long = "at", required = true, value_name = "TOPIC:PARTITION=OFFSET")]
        at: Vec<commands::sinks::StartAt>,
    },
    /// Accept that a topic was deleted and made anew: every sink begins at its start
    AcceptTopic {
        /// Name of the topic
        topic: String,
    },
}

impl Command {
    /// The sections, or single keys, that a command uses: those get flags, are judged, and have their secrets read.
    const SECTIONS: [(&'static str, &'static [&'static str]); 16] = [
        (
            "demo",
            &[
                "demo",
                "api",
                "output",
                "engine.workers",
                "engine.tick",
                "time",
                "detection",
                "telemetry",
                "log",
            ],
        ),
        (
            "run",
            &[
                "kafka",
                "store",
                "export",
                "search",
                "cloud",
                "alerts",
                "engine",
                "windows",
                "parse",
                "time",
                "detection",
                "models",
                "patterns",
                "redis",
                "metrics",
                "telemetry",
                "log",
            ],
        ),
        ("api", &["api", "store", "cloud", "redis", "telemetry", "log"]),
        (
            "generate",
            &["generate", "kafka.brokers", "kafka.topics", "kafka.properties", "kafka.property_files", "log"],
        ),
        (
            "analyze",
            &[
                "output",
                "engine.workers",
                "engine.tick",
                "engine.max_in_flight_bytes",
                "engine.max_waiting_bytes",
                "engine.max_services",
                "windows",
                "parse",
                "time",
                "detection",
                "patterns",
                "log",
            ],
        ),
        ("export", &["export", "store", "output", "log"]),
        (
            "train",
            &[
                "kafka",
                "store",
                "export.target",
                "models",
                "output",
                "engine.workers",
                "engine.max_services",
                "parse",
                "time",
                "detection",
                "log",
            ],
        ),
        ("replay", &["store", "kafka", "parse", "time", "models", "output", "log"]),
        (
            "backtest",
            &[
                "kafka",
                "store",
                "export.target",
                "models",
                "output",
                "engine.workers",
                "engine.max_services",
                "parse",
                "time",
                "detection",
                "log",
            ],
        ),
        (
            "models",
            &[
                "models",
                "kafka",
                "store",
                "export.target",
                "output",
                "engine.workers",
                "parse",
                "time",
                "log",
            ],
        ),
        ("patterns", &["patterns", "parse", "output", "log"]),
        ("migrate", &["store", "log"]),
        ("health", &["api.listen", "metrics.listen", "log"]),
        ("top", &["top", "api.listen", "metrics.listen", "output", "log"]),
        ("sinks", &["store", "output", "log"]),
        (
            "doctor",
            &[
                "kafka",
                "store",
                "export",
                "search",
                "cloud",
                "alerts",
                "api",
                "redis",
                "metrics",
                "engine",
                "windows",
                "parse",
                "time",
                "detection",
                "output",
                "log",
            ],
        ),
    ];

    fn sections(name: &str) -> &'static [&'static str] {
        Self::SECTIONS.iter().find(|(command, _)| *command == name).map_or(&[], |(_, sections)| sections)
    }
}

/// Runs the program. Called by `main` alone.
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(fault) => {
            // Nothing can be done about a stderr that is closed.
            let _ = fault.print();
            return ExitCode::from(u8::try_from(fault.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    match dispatch(&matches) {
        Ok(code) => code,
        Err(fault) => report(&fault),
    }
}

/// The command line with a flag for every setting.
pub fn command() -> clap::Command {
    let command = Cli::command();
    Command::SECTIONS.iter().fold(command, |command, (name, sections)| {
        command.mut_subcommand(name, |subcommand| {
            // `smartlog sinks list --store …` reads better than `smartlog sinks --store … list`: both are heard.
            let nested = subcommand.has_subcommands();
            subcommand.args(offered(sections).map(|option| flag_of(option).global(nested)))
        })
    })
}

fn offered(sections: &'static [&'static str]) -> impl Iterator<Item = &'static OptionSpec> {
    let of_section =
        |section: &'static str| options().iter().filter(move |option| is_in(&option.key, section));
    sections.iter().copied().flat_map(of_section)
}

fn flag_of(option: &'static OptionSpec) -> Arg {
    let default = option.default.as_deref().map(|default| default.replace(['"', '[', ']'], ""));
    let default = default.filter(|default| !matches!(default.as_str(), "" | "{}" | "false"));
    let default = default.map_or(String::new(), |default| format!(" [default: {default}]"));
    let detail = if option.detail.is_empty() { String::new() } else { format!("\n\n{}", option.detail) };
    let setting = format!("[key: {}] [variable: {}]", option.key, option.variable);
    let mut arg = Arg::new(option.key.as_str())
        .long(option.flag.as_str())
        .value_name(option.form.as_str())
        .help(format!("{}{default}", option.summary.trim_end_matches('.')))
        .long_help(format!("{}{detail}\n\n{setting}{default}", option.summary))
        .hide_short_help(!option.is_common);
    if option.flag != option.long_flag {
        arg = arg.alias(option.long_flag.as_str());
    }
    if !option.is_common {
        arg = arg.help_heading(format!("Settings of [{}]", option.section()));
    }
    match option.kind {
        Kind::List | Kind::Map => arg.action(ArgAction::Append),
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true),
        Kind::Text | Kind::Integer | Kind::Number => arg.allow_negative_numbers(true),
    }
}

fn dispatch(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let cli = Cli::from_arg_matches(matches)?;
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut command(), "smartlog", &mut std::io::stdout().lock());
        return Ok(ExitCode::SUCCESS);
    }
    let (name, submatches) = matches.subcommand().context("expected a command; see smartlog --help")?;
    let loaded = Loaded::load(&layers(&cli, name, submatches));
    if let (Command::Doctor(args), false) = (&cli.command, cli.show_config) {
        return commands::doctor::run(loaded, args);
    }
    let loaded = loaded?;
    if cli.show_config {
        std::io::stdout().lock().write_all(loaded.show().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::start(&loaded.config.log, telemetry::layer(&loaded.config.telemetry)?)?;
    let ended = commands::run_command(loaded.config, cli.command);
    telemetry::end();
    ended
}

fn layers(cli: &Cli, name: &str, matches: &ArgMatches) -> Layers {
    let sections = Command::sections(name);
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let environment: Vec<(String, String)> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let file = cli
        .config
        .clone()
        .or_else(|| std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
    let given = |option: &&OptionSpec| matches.value_source(&option.key) == Some(ValueSource::CommandLine);
    let values = |option: &'static OptionSpec| {
        let values = matches.get_many::<String>(&option.key).into_iter().flatten().cloned().collect();
        (option, values)
    };
    let flags = offered(sections).filter(given).map(values).collect();
    Layers { file, folder: PathBuf::new(), environment, flags, in_use: Some(sections) }
}

/// Says what went wrong, in the words of each cause that adds some, and gives the exit code.
fn report(fault: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(fault) {
        return ExitCode::SUCCESS;
    }
    // Nothing can be done about a stderr that is closed.
    let _ = writeln!(std::io::stderr().lock(), "smartlog: {}", chain(fault));
    let code = match fault.downcast_ref::<ConfigError>() {
        Some(refused) if refused.is_usage() => exit::USAGE,
        Some(_) => exit::CONFIG,
        None => exit::FAILURE,
    };
    ExitCode::from(code)
}

/// The reader of our output has gone, as `head` does: no fault of anybody's.
fn is_closed_pipe(fault: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().map(|e| e.kind());
    fault.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// The causes, outermost first; one that an outer one quotes already is left out.
fn chain(fault: &anyhow::Error) -> String {
    fault.chain().map(|cause| in_words(&cause)).fold(String::new(), |told, cause| match told.is_empty() {
        true => cause,
        false if told.contains(&cause) => told,
        false => format!("{told}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn help(command: &str) -> String {
        let mut cli = super::command().term_width(100);
        cli.build();
        let shown = match command {
            "" => &mut cli,
            name => cli.find_subcommand_mut(name).expect("a command"),
        };
        shown.render_help().to_string()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_reads_as_it_should() {
        for command in [
            "", "demo", "run", "api", "generate", "analyze", "train", "backtest", "replay", "models",
            "export", "patterns", "migrate", "sinks", "doctor", "health", "top",
        ] {
            let name = if command.is_empty() { "smartlog" } else { command };
            insta::assert_snapshot!(format!("help_{name}"), help(command));
        }
    }

    #[test]
    fn every_command_shows_examples_that_it_understands() {
        let mut examples = 0;
        for subcommand in command().get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            let text = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines =
                text.lines().filter_map(|line| line.split_once("smartlog ").map(|(_, arguments)| arguments));
            for line in lines.filter(|_| text.starts_with("Examples:")) {
                let line = line.split(['#', '|']).next().unwrap_or_default();
                let arguments = std::iter::once("smartlog").chain(line.split_whitespace());
                command().try_get_matches_from(arguments).unwrap_or_else(|fault| panic!("{line}: {fault}"));
                examples += 1;
            }
        }
        assert!(examples >= 18, "{examples}");
    }

    #[test]
    fn every_setting_has_a_flag_in_some_command() {
        let offered: BTreeSet<&str> = Command::SECTIONS
            .iter()
            .flat_map(|(_, sections)| offered(sections))
            .map(|option| option.key.as_str())
            .collect();
        let all: BTreeSet<&str> = options().iter().map(|option| option.key.as_str()).collect();
        assert_eq!(offered, all);
    }

    #[test]
    fn every_command_that_has_settings_exists() {
        for (name, _) in Command::SECTIONS {
            assert!(command().find_subcommand(name).is_some(), "{name}");
        }
    }

    /// The flags that `arguments` set.
    fn flags(arguments: &[&str]) -> Vec<(String, Vec<String>)> {
        let matches = command().try_get_matches_from(arguments).unwrap_or_else(|fault| panic!("{fault}"));
        let (name, submatches) = matches.subcommand().expect("a command");
        let cli = Cli::from_arg_matches(&matches).expect("a command");
        layers(&cli, name, submatches)
            .flags
            .into_iter()
            .map(|(option, values)| (option.key.clone(), values))
            .collect()
    }

    #[test]
    fn flags_become_settings_under_either_name() {
        let set =
            |key: &str, values: &[&str]| (key.to_string(), values.iter().map(ToString::to_string).collect());
        let given = flags(&[
            "smartlog",
            "run",
            "--topic",
            "a",
            "--kafka-topics",
            "b",
            "--until-end",
            "--store-raw-logs=false",
        ]);
        let expected: Vec<(String, Vec<String>)> = vec![
            set("kafka.topics", &["a", "b"]),
            set("store.raw_logs", &["false"]),
            set("engine.until_end", &["true"]),
        ];
        assert_eq!(given, expected);
        assert_eq!(flags(&["smartlog", "run"]), [], "a default is not a flag");
        let store = [set("store.url", &["none"])];
        assert_eq!(flags(&["smartlog", "sinks", "list", "--store", "none"]), store);
        assert_eq!(flags(&["smartlog", "sinks", "--store", "none", "list"]), store);
        assert_eq!(flags(&["smartlog", "demo", "--for", "60s"]), [set("demo.duration", &["60s"])]);
        assert_eq!(flags(&["smartlog", "generate", "--for", "60s"]), [set("generate.duration", &["60s"])]);
    }

    #[test]
    fn a_flag_of_another_command_is_a_matter_of_usage() {
        let fault = command()
            .try_get_matches_from(["smartlog", "migrate", "--workers", "2"])
            .expect_err("no such flag");
        assert_eq!(fault.exit_code(), i32::from(exit::USAGE));
    }

    #[test]
    fn the_causes_are_told_once_each_and_without_the_systems_numbers() {
        let refused = std::io::Error::from_raw_os_error(111);
        let fault = anyhow::Error::new(refused)
            .context("postgres://me@db: cannot connect")
            .context("the store is away");
        assert_eq!(chain(&fault), "the store is away: postgres://me@db: cannot connect: Connection refused");
        let quoted = anyhow::anyhow!("no such topic").context("cannot read: no such topic");
        assert_eq!(chain(&quoted), "cannot read: no such topic");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let closed =
            anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_closed_pipe(&closed));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }

    #[test]
    fn completions_name_every_visible_command() {
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut command(), "smartlog", &mut script);
        let script = String::from_utf8(script).expect("text");
        for subcommand in command().get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
            assert!(script.contains(subcommand.get_name()), "{}", subcommand.get_name());
        }
    }
}
