//! The option table as text: the example file, the table of the documentation, and the settings in force.

use super::error::Origin;
use super::options::{Kind, OptionSpec, SectionSpec, options, sections};
use super::settings::Config;
use serde_json::Value;
use std::fmt::Write as _;

/// Widest line of a comment in the example file.
const WIDTH: usize = 110;

/// The content of smartlog.example.toml: every setting with its default, commented out.
///
/// A line that begins with `#` and no space is a setting at its default; lines with `# ` are prose.
pub fn example_file() -> String {
    let mut text = comment(
        "Settings of smartlog. Copy to smartlog.toml and take the # off the lines that you want to change: what stays \
         commented out follows the program's defaults. Each setting has a flag and a variable too, and flags beat \
         variables beat this file. `smartlog run --show-config` prints what is in force and where it comes from.",
    );
    for section in sections() {
        let _ = write!(text, "\n{}[{}]\n", comment(&section.summary), section.name);
        for option in options_of(section) {
            text.push_str(&example_entry(option));
        }
    }
    text
}

fn example_entry(option: &OptionSpec) -> String {
    let mut text = format!("\n{}", comment(&option.summary));
    if !option.detail.is_empty() {
        text.push_str(&comment(&option.detail));
    }
    let name = option.name();
    text + &match &option.default {
        Some(default) => format!("#{name} = {default}\n"),
        None => format!("# {name} is unset; {}\n", option.form),
    }
}

fn options_of(section: &SectionSpec) -> impl Iterator<Item = &'static OptionSpec> {
    options().iter().filter(move |option| option.section() == section.name)
}

/// `text` as comment lines, wrapped between words.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut()
            && line.chars().count() + 1 + word.chars().count() <= WIDTH
        {
            let _ = write!(line, " {word}");
        } else {
            lines.push(format!("# {word}"));
        }
    }
    lines.join("\n") + "\n"
}

/// The tables of docs/CONFIGURATION.md, one per section.
pub fn reference_table() -> String {
    let mut text = String::new();
    for section in sections() {
        let _ = write!(
            text,
            "\n### `[{}]`\n\n{}\n\n| key | flag | default | what it is |\n|---|---|---|---|\n",
            section.name, section.summary
        );
        for option in options_of(section) {
            let default =
                option.default.as_deref().map_or("unset".to_string(), |default| format!("`{default}`"));
            let about = format!("{} {}", option.summary, option.detail);
            let form = match option.kind {
                Kind::Bool => String::new(),
                _ => format!(" {}", option.form),
            };
            let row = format!(
                "| `{}` | `--{}{form}` | {default} | {} |\n",
                option.name(),
                option.flag,
                about.trim()
            );
            text.push_str(&escape_choices(&row));
        }
    }
    text
}

/// A bar inside a cell would begin a new one.
fn escape_choices(row: &str) -> String {
    let mut in_code = false;
    row.chars().fold(String::new(), |mut text, c| {
        in_code ^= c == '`';
        if c == '|' && in_code {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

/// The settings of `config` as TOML, each with where it comes from; secrets are not shown.
pub(super) fn in_force(config: &Config, origin: &dyn Fn(&str) -> Origin) -> String {
    let values = serde_json::to_value(config).unwrap_or_default();
    let mut text = String::new();
    for section in sections() {
        let _ = writeln!(text, "{}[{}]", if text.is_empty() { "" } else { "\n" }, section.name);
        for option in options_of(section) {
            let pointer = format!("/{}", option.key.replace('.', "/"));
            let origin = origin(&option.key);
            let _ = match values.pointer(&pointer).filter(|value| !value.is_null()).map(inline) {
                Some(value) => writeln!(text, "{} = {value}  # {origin}", option.name()),
                None => writeln!(text, "# {} is unset", option.name()),
            };
        }
    }
    text
}

fn inline(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}
