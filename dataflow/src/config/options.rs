//! The option table: every setting once, with its key, flag, variable, help, form and default.
//!
//! ```text
//!   structs of settings.rs ──JSON schema──▶ options() ──▶ flags of every command, and their help
//!    (doc comments, types, defaults)            │ ├─────▶ variables SMARTLOG_…
//!                                               │ ├─────▶ known keys of the file, nearest one to a misspelt one
//!                                               │ └─────▶ smartlog.example.toml, docs/CONFIGURATION.md
//! ```
//!
//! Nothing here is written by hand for a single setting: add a field to a struct and all of these follow.

use super::settings::Config;
use super::units::FORM;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::sync::LazyLock;

/// What all variables of the program begin with.
pub const VARIABLE_PREFIX: &str = "SMARTLOG_";

/// The schema keyword that gives an option a short flag beside the one that follows from its key.
const FLAG: &str = "x-flag";

/// How the text of a flag or variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Taken as it is; also for durations, sizes and choices, which read themselves from text.
    Text,
    Integer,
    Number,
    Bool,
    /// Several texts: a repeated flag, or separated by commas.
    List,
    /// Names with a text each: `NAME=VALUE`.
    Map,
}

/// One setting, in all its forms.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    /// Section and name as in the file, such as `kafka.brokers`.
    pub key: String,
    /// Without the dashes, such as `brokers`.
    pub flag: String,
    /// The flag that follows from the key, such as `kafka-brokers`; heard too where `flag` is shorter.
    pub long_flag: String,
    /// Wanted often enough for a flag of its own making, and for the short help.
    pub is_common: bool,
    /// Such as `SMARTLOG_KAFKA_BROKERS`.
    pub variable: String,
    /// What it is, in a sentence or two.
    pub summary: String,
    /// When to change it, and what goes wrong then. May be empty.
    pub detail: String,
    pub kind: Kind,
    /// What a value looks like, such as `DURATION` or `pretty|json`.
    pub form: String,
    /// As TOML; `None`: unset.
    pub default: Option<String>,
}

impl OptionSpec {
    /// The table of the file that the key is in, such as `detection.baseline`.
    pub fn section(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The key within its section.
    pub fn name(&self) -> &str {
        self.key.rsplit_once('.').map_or(&self.key, |(_, name)| name)
    }
}

/// A table of the file.
#[derive(Debug, Clone)]
pub struct SectionSpec {
    /// Such as `detection.baseline`.
    pub name: String,
    pub summary: String,
}

struct Registry {
    options: Vec<OptionSpec>,
    sections: Vec<SectionSpec>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::build);

/// Every setting, in the order of the file.
pub fn options() -> &'static [OptionSpec] {
    &REGISTRY.options
}

/// Every table of the file, in order.
pub fn sections() -> &'static [SectionSpec] {
    &REGISTRY.sections
}

/// Whether `key` is `section`, or lies in it or in a section of it.
pub fn is_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The setting with this key.
pub fn option(key: &str) -> Option<&'static OptionSpec> {
    options().iter().find(|option| option.key == key)
}

impl Registry {
    fn build() -> Self {
        let settings =
            SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<Config>();
        // Defaults are part of the program: that they can be written down is what the tests of this module check.
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        let mut registry = Registry { options: Vec::new(), sections: Vec::new() };
        registry.add_fields("", schema.as_value(), &defaults);
        registry
    }

    fn add_fields(&mut self, section: &str, schema: &Value, defaults: &Value) {
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
        for name in declared_order(schema) {
            let Some(field) = fields.get(name) else { continue };
            let default = defaults.get(name).unwrap_or(&Value::Null);
            let key = if section.is_empty() { name.to_string() } else { format!("{section}.{name}") };
            if field.get("properties").is_some() {
                let (summary, _) = described(field);
                self.sections.push(SectionSpec { name: key.clone(), summary });
                self.add_fields(&key, field, default);
            } else {
                self.options.push(option_of(key, field, default));
            }
        }
    }
}

/// A schema's properties are sorted by name; what it requires keeps the order of the struct's fields, and a schema for
/// writing requires every field.
fn declared_order(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn option_of(key: String, field: &Value, default: &Value) -> OptionSpec {
    let (summary, detail) = described(field);
    let long_flag = key.replace(['.', '_'], "-");
    let own_flag = field.get(FLAG).and_then(Value::as_str);
    let (flag, is_common) = (own_flag.unwrap_or(&long_flag).to_string(), own_flag.is_some());
    let variable = format!("{VARIABLE_PREFIX}{}", key.replace('.', "_").to_uppercase());
    let kind = kind_of(field);
    let form = form_of(field, kind);
    let default = toml_of(default);
    OptionSpec { key, flag, long_flag, is_common, variable, summary, detail, kind, form, default }
}

/// The first paragraph of a doc comment, and the rest, each without the line breaks of the source.
fn described(field: &Value) -> (String, String) {
    let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
    let (summary, detail) = text.split_once("\n\n").unwrap_or((text, ""));
    let reflow = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    (reflow(summary), reflow(detail))
}

fn kind_of(field: &Value) -> Kind {
    if field.get("additionalProperties").is_some() {
        return Kind::Map;
    }
    match type_names(field).first().copied() {
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Bool,
        Some("array") => Kind::List,
        _ => Kind::Text,
    }
}

/// The types that a schema allows, `null` left out.
fn type_names(field: &Value) -> Vec<&str> {
    let names = match field.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().filter(|name| *name != "null").collect()
}

fn form_of(field: &Value, kind: Kind) -> String {
    if let Some(form) = field.get(FORM).and_then(Value::as_str) {
        return form.to_string();
    }
    let choices = choices_of(field);
    if !choices.is_empty() {
        return choices.join("|");
    }
    match kind {
        Kind::Integer | Kind::Number => "NUMBER",
        Kind::Bool => "true|false",
        Kind::List => "LIST",
        Kind::Map => "NAME=VALUE",
        Kind::Text => "TEXT",
    }
    .to_string()
}

/// The spellings of an enum, with or without doc comments on its variants.
fn choices_of(field: &Value) -> Vec<&str> {
    let listed = |keyword: &str| field.get(keyword).and_then(Value::as_array).into_iter().flatten();
    let documented = listed("oneOf").filter_map(|variant| variant.get("const"));
    listed("enum").chain(documented).filter_map(Value::as_str).collect()
}

/// A default as it is written in the file.
fn toml_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        value => toml::Value::try_from(value).ok().map(|value| value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn dump() {
        for o in options() {
            println!("{o:#?}");
        }
        for o in sections() {
            println!("{o:?}");
        }
    }
}
