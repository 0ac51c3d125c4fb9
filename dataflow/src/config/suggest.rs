//! What somebody probably meant by a key or variable that there is not.

use super::options::{Kind, VARIABLE_PREFIX, options, sections};

/// Below this likeness (0 to 1) a guess would mislead more than it helps.
const LEAST_LIKENESS: f64 = 0.6;
/// What is right in name but in another section ranks below the same name misspelt.
const OTHER_SECTION: f64 = 0.8;

/// The message about a key that no option has.
pub(super) fn unknown_key(key: &str) -> String {
    let known =
        options().iter().map(|option| option.key.as_str()).chain(sections().iter().map(|s| s.name.as_str()));
    let advice = match nearest(key, known, likeness_of_keys) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{}; see docs/CONFIGURATION.md", siblings(key)),
    };
    format!("there is no setting `{key}`; {advice}")
}

/// The message about a variable with our prefix that no option has.
pub(super) fn unknown_variable(name: &str) -> String {
    let is_map = |variable: &str| options().iter().any(|o| o.variable == variable && o.kind == Kind::Map);
    let known = options().iter().map(|option| option.variable.as_str());
    let advice = match nearest(name, known, likeness_of_variables) {
        Some(near) if is_map(near) => {
            format!("expected one variable for each entry, {near}__NAME, NAME with _ for each dot")
        }
        Some(near) => format!("did you mean {near}?"),
        None => "see docs/CONFIGURATION.md for those there are, or unset it".to_string(),
    };
    format!("there is no setting of this name; {advice}")
}

/// What there is where the key was looked for.
fn siblings(key: &str) -> String {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let names: Vec<&str> = match section {
        "" => sections().iter().map(|s| s.name.as_str()).filter(|name| !name.contains('.')).collect(),
        section => options()
            .iter()
            .filter(|option| option.section() == section)
            .map(|option| option.name())
            .collect(),
    };
    match (section, names.is_empty()) {
        (_, true) => format!("and no section [{section}]"),
        ("", false) => format!("the sections are {}", names.join(", ")),
        (section, false) => format!("the keys of [{section}] are {}", names.join(", ")),
    }
}

fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    likeness: fn(&str, &str) -> f64,
) -> Option<&'a str> {
    known
        .map(|candidate| (likeness(name, candidate), candidate))
        .filter(|(score, _)| *score >= LEAST_LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A slip of one letter in the right section is likelier than a right name in a wrong one, however short the name.
const ONE_SLIP: f64 = 0.95;

/// Sections and names are compared apart, or a long section would make all of its keys alike.
fn likeness_of_keys(a: &str, b: &str) -> f64 {
    let split = |key| str::rsplit_once(key, '.').unwrap_or(("", key));
    let ((section_a, name_a), (section_b, name_b)) = (split(a), split(b));
    let names = strsim::normalized_damerau_levenshtein(name_a, name_b);
    let slips = strsim::damerau_levenshtein(name_a, name_b);
    if section_a == section_b && slips == 1 && name_b.len() > 3 {
        return ONE_SLIP + (1.0 - ONE_SLIP) * names;
    }
    let sections = strsim::normalized_damerau_levenshtein(section_a, section_b);
    names * (OTHER_SECTION + (1.0 - OTHER_SECTION) * sections)
}

fn likeness_of_variables(a: &str, b: &str) -> f64 {
    let bare = |name: &str| name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name).to_string();
    let (a, b) = (bare(a), bare(b));
    let spelt = strsim::normalized_damerau_levenshtein(&a, &b);
    // A part of a name stands for the whole: SMARTLOG_BROKERS, SMARTLOG_STORE.
    let is_part = b.split('_').any(|word| word == a) || b.ends_with(&format!("_{a}"));
    if is_part { spelt.max(OTHER_SECTION * (0.7 + 0.3 * spelt)) } else { spelt }
}
