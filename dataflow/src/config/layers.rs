//! Reads the layers and lays the later over the earlier: defaults < file < environment < flags.
//!
//! ```text
//!   smartlog.toml ──▶ key → value, line ──┐
//!   SMARTLOG_…    ──▶ key → value, name ──┼──▶ Settings: key → (value, origin) ──▶ Config
//!   --flags       ──▶ key → value, name ──┘        later layers replace earlier ones, key by key
//! ```
//!
//! Layers are flat (a key such as `kafka.brokers` to a value), so that each value keeps its origin for error messages
//! and for `--show-config`.

use super::error::{ConfigError, Origin, Problem};
use super::options::{Kind, OptionSpec, VARIABLE_PREFIX, option, options, sections};
use super::settings::Config;
use super::suggest;
use serde::de::IntoDeserializer;
use serde_path_to_error::Segment;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Value;

/// A setting's key; for an entry of a map, the entry's name as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SettingKey {
    pub key: String,
    pub entry: Option<String>,
}

/// What was set, over the defaults.
#[derive(Default)]
pub(super) struct Settings {
    values: BTreeMap<SettingKey, (Value, Origin)>,
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

impl fmt::Debug for Settings {
    /// Without the values: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin =
            |(setting, (_, origin)): (&SettingKey, &(Value, Origin))| (setting.clone(), origin.to_string());
        f.debug_map().entries(self.values.iter().map(origin)).finish()
    }
}

impl Settings {
    fn set(&mut self, key: &str, entry: Option<&str>, value: Value, origin: Origin) {
        self.values.insert(SettingKey { key: key.into(), entry: entry.map(Into::into) }, (value, origin));
    }

    /// Adds the file's settings. `path` names it in messages.
    pub fn add_file(&mut self, path: &Path, text: &str) {
        self.file = Some(path.to_path_buf());
        let at = |line| Origin::File { path: path.to_path_buf(), line };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(fault) => {
                let line = fault.span().map(|span| line_of(text, span.start));
                return self.problems.push(Problem::new(at(line), format!("not TOML: {}", fault.message())));
            }
        };
        let lines = Lines::of(text);
        self.add_table("", &table, &|key| at(lines.find(key)));
    }

    fn add_table(&mut self, section: &str, table: &toml::Table, origin: &dyn Fn(&str) -> Origin) {
        for (name, value) in table {
            let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            let found = origin(&key);
            let is_section = sections().iter().any(|section| section.name == key);
            match (option(&key), value) {
                (Some(OptionSpec { kind: Kind::Map, .. }), Value::Table(entries)) => {
                    for (entry, value) in entries {
                        self.set(&key, Some(entry), as_text(value), origin(&format!("{key}.{entry}")));
                    }
                }
                (Some(_), value) => self.set(&key, None, plain(value), found),
                (None, Value::Table(table)) if is_section => self.add_table(&key, table, origin),
                (None, _) if is_section => {
                    let message = format!("`{key}` is a section: write [{key}] and its keys below");
                    self.problems.push(Problem::new(found, message));
                }
                (None, _) => self.problems.push(Problem::new(found, suggest::unknown_key(&key))),
            }
        }
    }

    /// Adds the variables that concern the program; others are none of its business.
    pub fn add_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in variables {
            if name == "RUST_LOG" && !text.is_empty() {
                self.add_rust_log(text);
            } else if name.starts_with(VARIABLE_PREFIX) && !is_foreign(&name, &text) && !text.is_empty() {
                self.add_variable(name, &text);
            }
        }
    }

    /// The ecosystem's own variable for `log.filter`: it beats the file, and yields to the program's own variable.
    fn add_rust_log(&mut self, text: String) {
        let key = SettingKey { key: "log.filter".into(), entry: None };
        let set_by_variable = matches!(self.values.get(&key), Some((_, Origin::Variable(_))));
        if !set_by_variable {
            self.values.insert(key, (Value::String(text), Origin::Variable("RUST_LOG".into())));
        }
    }

    fn add_variable(&mut self, name: String, text: &str) {
        let exact = options().iter().find(|option| option.variable == name && option.kind != Kind::Map);
        let entry = || {
            let (variable, entry) = name.split_once("__")?;
            let map =
                options().iter().find(|option| option.variable == variable && option.kind == Kind::Map)?;
            Some((map, entry.to_lowercase().replace('_', ".")))
        };
        let (option, entry) =
            match exact.map(|option| (option, None)).or_else(|| entry().map(|(o, e)| (o, Some(e)))) {
                Some(found) => found,
                None => {
                    let message = suggest::unknown_variable(&name);
                    return self.problems.push(Problem::new(Origin::Variable(name), message));
                }
            };
        match value_of(option, &[text]) {
            Ok(value) => self.set(&option.key, entry.as_deref(), value, Origin::Variable(name)),
            Err(message) => self.problems.push(Problem::new(Origin::Variable(name), message)),
        }
    }

    /// Adds one flag with all the values that it was given.
    pub fn add_flag(&mut self, option: &OptionSpec, texts: &[&str]) {
        let origin = || Origin::Flag(option.flag.clone());
        if option.kind != Kind::Map {
            match value_of(option, texts) {
                Ok(value) => self.set(&option.key, None, value, origin()),
                Err(message) => self.problems.push(Problem::new(origin(), message)),
            }
            return;
        }
        for text in texts {
            match text.split_once('=') {
                Some((entry, value)) => self.set(&option.key, Some(entry.trim()), value.into(), origin()),
                // What was given may hold a secret.
                None => {
                    let message = format!("`{}`: expected {}, found no `=`", option.key, option.form);
                    self.problems.push(Problem::new(origin(), message));
                }
            }
        }
    }

    /// The origin of a setting.
    pub fn origin(&self, key: &str) -> Origin {
        let of_key = self.values.iter().find(|(setting, _)| setting.key == key);
        of_key.map_or(Origin::Default, |(_, (_, origin))| origin.clone())
    }

    /// The file that was read, and how many settings came from variables and from flags.
    pub fn origins(&self) -> (Option<&Path>, usize, usize) {
        let count = |is: fn(&Origin) -> bool| self.values.values().filter(|(_, origin)| is(origin)).count();
        let variables = count(|origin| matches!(origin, Origin::Variable(_)));
        let flags = count(|origin| matches!(origin, Origin::Flag(_)));
        (self.file.as_deref(), variables, flags)
    }

    /// Lays everything over the defaults.
    pub fn into_config(mut self) -> Result<(Config, Self), ConfigError> {
        ConfigError::check(std::mem::take(&mut self.problems))?;
        let mut root = toml::Table::new();
        for (setting, (value, _)) in self.neighbours().iter().chain(&self.values) {
            insert(&mut root, setting, value.clone());
        }
        match serde_path_to_error::deserialize(Value::Table(root).into_deserializer()) {
            Ok(config) => Ok((config, self)),
            Err(fault) => Err(self.refusal(&fault).into()),
        }
    }

    /// The default numbers of every table in which a number is set: tables of one type differ in them by their place, so
    /// what a table leaves out cannot be the type's to say.
    fn neighbours(&self) -> BTreeMap<SettingKey, (Value, Origin)> {
        let numbers = || options().iter().filter(|option| option.kind == Kind::Number);
        let is_set = |option: &&OptionSpec| self.values.keys().any(|setting| setting.key == option.key);
        let touched: BTreeSet<&str> = numbers().filter(is_set).map(OptionSpec::section).collect();
        let default = |option: &OptionSpec| {
            let key = SettingKey { key: option.key.clone(), entry: None };
            let value = option.default.as_ref()?.parse::<f64>().ok()?;
            Some((key, (Value::Float(value), Origin::Default)))
        };
        numbers().filter(|option| touched.contains(option.section())).filter_map(default).collect()
    }

    fn refusal(&self, fault: &serde_path_to_error::Error<toml::de::Error>) -> Problem {
        let names = fault.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.as_str()),
            _ => None,
        });
        let path = names.collect::<Vec<_>>().join(".");
        // An element of a list or an entry of a map lies below the option's key.
        let key = options().iter().map(|option| option.key.as_str()).find(|key| path.starts_with(key));
        let key = key.unwrap_or(&path);
        let entry = path.strip_prefix(key).and_then(|rest| rest.strip_prefix('.'));
        let setting = SettingKey { key: key.into(), entry: entry.map(Into::into) };
        let origin = self.values.get(&setting).map_or_else(|| self.origin(key), |(_, origin)| origin.clone());
        Problem::new(origin, format!("`{path}`: {}", fault.inner().message().trim_end()))
    }
}

/// Puts `value` at its place in the nested table.
fn insert(root: &mut toml::Table, setting: &SettingKey, value: Value) {
    let mut table = root;
    let mut names: Vec<&str> = setting.key.split('.').collect();
    names.extend(setting.entry.as_deref());
    let Some(last) = names.pop() else { return };
    for name in names {
        let child = table.entry(name).or_insert_with(|| Value::Table(toml::Table::new()));
        // Keys come from the option table, where no option is a section too; a list in a map's place is refused later.
        let Value::Table(inner) = child else { return };
        table = inner;
    }
    table.insert(last.into(), value);
}

/// Reads what a flag or variable says, by the option's kind.
fn value_of(option: &OptionSpec, texts: &[&str]) -> Result<Value, String> {
    let single = || match texts {
        [text] => Ok(text.trim()),
        _ => Err(format!("`{}`: expected one value, found {}", option.key, texts.len())),
    };
    let expected = |what: &str, text: &str| format!("`{}`: expected {what}, found `{text}`", option.key);
    match option.kind {
        Kind::Text | Kind::Map => Ok(Value::from(single()?)),
        Kind::Bool => match single()? {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            text => Err(expected("true or false", text)),
        },
        Kind::Integer => {
            let text = single()?;
            text.replace('_', "").parse().map(Value::Integer).map_err(|_| expected("a whole number", text))
        }
        Kind::Number => {
            let text = single()?;
            text.parse().map(Value::Float).map_err(|_| expected("a number", text))
        }
        Kind::List => {
            let items =
                texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(Value::from).collect()))
        }
    }
}

/// Without TOML's own dates: settings read times from text.
fn plain(value: &Value) -> Value {
    match value {
        Value::Datetime(time) => Value::String(time.to_string()),
        other => other.clone(),
    }
}

/// An entry of a map, all of which are texts, also where the file has `true` or `1`.
fn as_text(value: &Value) -> Value {
    match plain(value) {
        scalar @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => {
            Value::String(scalar.to_string())
        }
        other => other,
    }
}

/// Variables with the program's prefix that are not meant for it.
fn is_foreign(name: &str, text: &str) -> bool {
    const OURS: [&str; 4] = ["SMARTLOG_CONFIG", "SMARTLOG_SERVICES", "SMARTLOG_CACHE", "SMARTLOG_SHARED"];
    OURS.contains(&name) || name.starts_with("SMARTLOG_TEST_") || is_kubernetes(name, text)
}

/// Kubernetes gives every pod the addresses of the services in its namespace, and a service may be called `smartlog`:
/// `SMARTLOG_SERVICE_HOST`, `SMARTLOG_SERVICE_PORT_HTTP`, `SMARTLOG_PORT=tcp://…`, `SMARTLOG_API_PORT_8000_TCP_ADDR`.
fn is_kubernetes(name: &str, text: &str) -> bool {
    let is_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && text.contains("://"))
        || name.split("_PORT_").skip(1).any(is_port)
}

/// In which line of a file each key is.
struct Lines(BTreeMap<String, usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        if let Ok(table) = toml::de::DeTable::parse(text) {
            Self::add("", table.get_ref(), text, &mut lines);
        }
        Lines(lines)
    }

    fn add(section: &str, table: &toml::de::DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
        for (name, value) in table {
            let key = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            if let toml::de::DeValue::Table(inner) = value.get_ref() {
                Self::add(&key, inner, text, lines);
            }
            lines.insert(key, line_of(text, name.span().start));
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.0.get(key).copied()
    }
}

/// The line that the byte at `at` is in, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
