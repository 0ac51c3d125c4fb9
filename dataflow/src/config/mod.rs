//! Settings: what they are, where they come from, and why some are refused.
//!
//! ```text
//!   defaults < smartlog.toml < SMARTLOG_… < --flags ──▶ Config ──▶ validated ──▶ secrets read ──▶ Loaded
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | `settings` | the structs: every key, its help and its default, once |
//! | `options` | the option table derived from them |
//! | `layers` | reading and laying over each other of file, environment and flags |
//! | `validate` | combinations that cannot work |
//! | `document` | the example file and the documentation, made from the table |
//! | `suggest` | the nearest known key to a misspelt one |
//! | `secret` | values that are never printed |
//! | `units` | durations, sizes, time zones and starts as people write them |

mod document;
mod error;
mod layers;
mod options;
pub mod secret;
mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod units;
mod validate;

pub use document::{example_file, reference_table};
pub use error::{ConfigError, Origin, Problem, in_words};
pub use options::{Kind, OptionSpec, SectionSpec, is_in, option, options, sections};
pub use settings::*;
pub use units::Start;

use layers::Settings;
use std::path::{Path, PathBuf};
use validate::Refusal;

/// The file that is read from the working directory when there is one and none is named.
pub const DEFAULT_FILE: &str = "smartlog.toml";
/// Names the file to read, as `--config` does.
pub const FILE_VARIABLE: &str = "SMARTLOG_CONFIG";

/// What a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A file that must exist. `None`: `smartlog.toml` in `folder`, if there is one.
    pub file: Option<PathBuf>,
    /// Where `smartlog.toml` is looked for.
    pub folder: PathBuf,
    /// All variables of the process; those that are not meant for the program are passed over.
    pub environment: Vec<(String, String)>,
    /// Options with the values of their flags, in the order given.
    pub flags: Vec<(&'static OptionSpec, Vec<String>)>,
    /// The sections and single keys that are in use: what stands in others is read, but neither judged nor are its secrets fetched.
    /// `None`: all of them.
    pub in_use: Option<&'static [&'static str]>,
}

impl Layers {
    fn uses(&self, key: &str) -> bool {
        self.in_use.is_none_or(|used| used.iter().any(|section| is_in(key, section)))
    }
}

/// A configuration, and where each part of it comes from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    settings: Settings,
}

impl Loaded {
    /// Reads the layers, refuses what cannot work, and reads the secrets that are given by file.
    pub fn load(layers: &Layers) -> Result<Loaded, ConfigError> {
        let mut settings = Settings::default();
        if let Some((path, text)) = read_file(layers)? {
            settings.add_file(&path, &text);
        }
        settings.add_environment(layers.environment.iter().cloned());
        for (option, texts) in &layers.flags {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            settings.add_flag(option, &texts);
        }
        let (mut config, settings) = settings.into_config()?;
        let refusals = validate::refusals(&config).into_iter().filter(|refusal| layers.uses(refusal.key));
        let problem = |refusal: Refusal| {
            Problem::new(settings.origin(refusal.key), format!("`{}`: {}", refusal.key, refusal.message))
        };
        ConfigError::check(refusals.map(problem).collect())?;
        let unread = validate::read_secrets(&mut config, &|key| layers.uses(key));
        ConfigError::check(unread.into_iter().map(problem).collect())?;
        Ok(Loaded { config, settings })
    }

    /// Where the setting `key` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.settings.origin(key)
    }

    /// The file that settings came from, and how many settings came from variables and from flags.
    pub fn origins(&self) -> (Option<&Path>, usize, usize) {
        self.settings.origins()
    }

    /// The settings in force as TOML, each with its origin, without secrets.
    pub fn show(&self) -> String {
        document::in_force(&self.config, &|key| self.origin(key))
    }
}

fn read_file(layers: &Layers) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = layers.file.as_deref();
    let found = layers.folder.join(DEFAULT_FILE);
    let path: &Path = named.unwrap_or(&found);
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_path_buf(), text))),
        Err(fault) if named.is_none() && fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => {
            let origin = Origin::File { path: path.to_path_buf(), line: None };
            Err(Problem::new(
                origin,
                format!("cannot be read: {}; check --config and {FILE_VARIABLE}", in_words(&fault)),
            )
            .into())
        }
    }
}
