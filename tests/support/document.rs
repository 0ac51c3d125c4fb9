//! The documents, and a reader who does what they say, in a folder of their own.
//!
//! ```text
//!   README.md, docs/*.md ─▶ blocks (section, language, text) ─▶ Reader ── bash ─▶ real services
//!                                                                 └ what stands there for the reader's own: `URL`, ports, …
//! ```

use crate::program::{Program, binary};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(300);
/// The language of what is indented instead of fenced.
pub const INDENTED: &str = "indented";

/// What stands between two fences, or is indented by four.
#[derive(Debug)]
pub struct Block {
    /// The heading above it.
    pub section: String,
    pub language: String,
    pub text: String,
}

/// The text of a file of the checkout.
///
/// # Panics
/// When there is none.
pub fn read(document: &str) -> String {
    let path = crate::manifest::repository().join(document);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Every document, by its path in the checkout.
///
/// # Panics
/// When a folder of them cannot be read.
pub fn documents() -> Vec<String> {
    let folders = [
        "",
        "docs",
        "docs/decisions",
        "k8s",
        "compose",
        "dbt",
        "terraform",
        "forest",
        "fuzz",
        "tests/services",
    ];
    let mut found = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(crate::manifest::repository().join(folder)).expect("a folder").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let names = names.filter(|name| name.ends_with(".md"));
        found.extend(names.map(|name| Path::new(folder).join(name).display().to_string()));
    }
    found.sort();
    found
}

/// The blocks of a document, in order.
pub fn blocks(document: &str) -> Vec<Block> {
    let (mut section, mut found, mut fence) = (String::new(), Vec::<Block>::new(), None);
    let mut after_blank = true;
    for line in read(document).lines() {
        let marker = line.trim_start().strip_prefix("```");
        match (fence, marker) {
            (None, Some(language)) => {
                fence = Some(line.len() - line.trim_start().len());
                found.push(Block {
                    section: section.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => fence = None,
            (Some(indent), None) => add(&mut found, line.get(indent..).unwrap_or_default()),
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    section = heading.trim_start_matches('#').trim().to_owned();
                }
                let Some(text) = line.strip_prefix("    ") else {
                    after_blank = line.is_empty();
                    continue;
                };
                if after_blank {
                    found.push(Block {
                        section: section.clone(),
                        language: INDENTED.into(),
                        text: String::new(),
                    });
                }
                add(&mut found, text);
                after_blank = false;
                continue;
            }
        }
        after_blank = false;
    }
    found
}

fn add(found: &mut [Block], line: &str) {
    if let Some(block) = found.last_mut() {
        block.text.push_str(line);
        block.text.push('\n');
    }
}

/// The blocks of one language in a section, in order.
///
/// # Panics
/// When there is none.
pub fn blocks_of(document: &str, section: &str, language: &str) -> Vec<String> {
    let found = blocks(document).into_iter();
    let found = found.filter(|block| block.section == section && block.language == language);
    let texts: Vec<String> = found.map(|block| block.text).collect();
    assert!(!texts.is_empty(), "{document} has no block of {language} under {section}");
    texts
}

/// The lines of a block.
///
/// # Panics
/// When there are more or fewer.
pub fn lines<const N: usize>(block: &str) -> [&str; N] {
    let lines: Vec<&str> = block.lines().collect();
    lines.try_into().unwrap_or_else(|found| panic!("{N} lines are known here, found {found:?}"))
}

/// The whole numbers in what was printed.
pub fn numbers(printed: &str) -> Vec<i64> {
    printed.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// Somebody who follows a document: with smartlog and nothing else of this machine's settings.
pub struct Reader {
    folder: TempDir,
    variables: Vec<(String, String)>,
    own: Vec<(String, String)>,
}

impl Default for Reader {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tools = folder.path().join(".bin");
        fs::create_dir(&tools).expect("a folder");
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let mut reader = Reader { folder, variables: vec![("PATH".into(), path)], own: Vec::new() };
        reader.has_program("smartlog", &format!("{} \"$@\"", binary().display()));
        reader.has("$PWD/target/release:", "");
        reader
    }
}

impl Reader {
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn has_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("a file in a temporary folder");
        path
    }

    /// A program, as a line of a shell script.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn has_program(&mut self, name: &str, line: &str) {
        let path = self.has_file(&format!(".bin/{name}"), &format!("#!/bin/sh\nexec {line}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is this test's");
    }

    /// PostgreSQL's own programs.
    pub fn has_postgres(&mut self, psql: &str) {
        let folder = Path::new(psql).parent().expect("a folder").display().to_string();
        for name in ["psql", "pg_dump", "pg_restore"] {
            self.has_program(name, &format!("{folder}/{name} \"$@\""));
        }
    }

    /// A variable of the shell.
    pub fn sets(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Where a document says `written`, this reader has `own`.
    pub fn has(&mut self, written: &str, own: &str) {
        self.own.push((written.to_owned(), own.to_owned()));
    }

    fn own(&self, text: &str) -> String {
        self.own.iter().fold(text.to_owned(), |text, (written, own)| text.replace(written, own))
    }

    /// Starts what stands in a block; the last line runs on until the program is dropped.
    pub fn starts(&self, block: &str) -> Program {
        let block = self.own(block);
        let (before, last) = block.trim_end().rsplit_once('\n').unwrap_or(("", block.trim_end()));
        self.shell(&format!("{before}\nexec {last}"))
    }

    /// Does what stands in a block, to its end, and gives what was printed.
    ///
    /// # Panics
    /// When a line of it fails, or takes too long.
    pub fn follows(&self, block: &str) -> String {
        let block = self.own(block);
        let mut shell = self.shell(&block);
        let status = shell.wait(PATIENCE);
        assert!(status.success(), "{status}: {block}\n----\n{}{}", shell.printed(), shell.said());
        shell.printed()
    }

    fn shell(&self, script: &str) -> Program {
        let script = format!("cd '{}'\nset -e\n{script}", self.folder().display());
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Program::start_as(Path::new("bash"), &["-c", &script], &variables)
    }
}
