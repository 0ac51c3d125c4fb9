//! Settings are taken or refused in words, the same each time; what was taken is taken again when it is written down as
//! `--show-config` prints it. The program's own suite runs this over the seeds (`dataflow/tests/settings.rs`).

use smartlog::config::{ConfigError, DEFAULT_FILE, Layers, Loaded, OptionSpec, options};

/// The first byte chooses how the rest is given: `f` as the file, `v` as the variable of one option, else as its flag.
pub fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let folder = Folder::new();
    let layers = folder.layers();
    match first {
        b'f' => folder.check(text, layers),
        b'v' => {
            let Some((option, value)) = option_and_value(text) else { return };
            folder.check("", Layers { environment: vec![(option.variable.clone(), value.into())], ..layers });
        }
        _ => {
            let Some((option, value)) = option_and_value(text) else { return };
            folder.check("", Layers { flags: vec![(option, vec![value.into()])], ..layers });
        }
    }
}

/// `NUMBER VALUE`: the option of that number in the table.
fn option_and_value(text: &str) -> Option<(&'static OptionSpec, &str)> {
    let (number, value) = text.split_once(' ')?;
    let option = options().get(number.parse::<usize>().ok()? % options().len())?;
    Some((option, value))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    fn layers(&self) -> Layers {
        Layers { folder: self.0.path().to_path_buf(), ..Layers::default() }
    }

    fn load(&self, file: &str, layers: &Layers) -> Result<Loaded, ConfigError> {
        std::fs::write(self.0.path().join(DEFAULT_FILE), file).expect("a file in a temporary folder");
        Loaded::load(layers)
    }

    fn check(&self, file: &str, layers: Layers) {
        match self.load(file, &layers) {
            Err(refusal) => {
                let said = refusal.to_string();
                assert!(said.lines().count() > 1, "no word of what is wrong: {said}");
                assert_eq!(self.load(file, &layers).expect_err("refused before").to_string(), said);
            }
            Ok(loaded) => {
                let shown = loaded.show();
                let again = self.load(&shown, &self.layers());
                let again = again.unwrap_or_else(|refusal| panic!("{refusal}\n{shown}"));
                // Secrets are not shown, so they are not taken again.
                if !shown.contains("***") {
                    assert_eq!(again.config, loaded.config, "{shown}");
                }
            }
        }
    }
}
