//! What words mean to grouping: which are never a value, which announce one, which look like a name.

use foldhash::HashSet;
use std::sync::LazyLock;

/// Stems of words that say how things stand: levels, outcomes, states and their opposites, requests. Two messages that
/// differ in one of them are two templates, however often they are seen.
const STATE_STEMS: &str = "\
    alert critical debug emergency err error fatal fault info notice panic severe trace verbose warn warning \
    abort accept acknowledge allow cancel complete deny denied disallow done drop exceed expire fail failure \
    finish forbid forbidden grant ignore invalid lost miss ok okay pass permit reject refuse retry skip succeed \
    success successful successfully timeout valid accepted granted activate active alive attach available begin \
    block blocked busy close connect create dead deactivate degrade delete destroy detach die died disable \
    disconnect down empty enable end enter exit free full healthy high idle inactive init install invisible join \
    kill launch leave left load lock login logout low mount off offline on online open over pause pend pending \
    publish ready receive recover register release remove reset restart resume rise run running send sent \
    shutdown sleep start stop stopped subscribe suspend terminate unavailable unblock unhealthy uninstall \
    unknown unload unlock unmount unregister unsubscribe up update visible wait wake false no none not \
    null true yes";

/// [`STATE_STEMS`] with their English endings.
static STATE: LazyLock<HashSet<String>> =
    LazyLock::new(|| STATE_STEMS.split(' ').flat_map(inflected).collect());

/// Nouns that are followed by a name: `user root`, `file a.log`.
const CUES: &str = "\
    account address bucket channel class client cluster component container database device directory disk \
    domain driver executor file filesystem folder group host hostname id image instance interface job key method \
    module name named namespace node package partition path plugin pod pool process program queue region replica \
    role server service session shard tenant table task thread topic unit url user username volume worker zone";

/// Requests, as protocols write them: `patch` may be a package, `PATCH` is none.
const REQUESTS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// Whether the word, or a part of it (`setLightsOn`, `SCREEN_OFF`), says how things stand. Of a path or a hyphenated
/// name only the last part tells.
pub(super) fn is_state(word: &str) -> bool {
    let last = word.rsplit(['.', '-', '/', '@', '$', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    // `half-installed`, but `lsb-release` is a name.
    let is_name = last.len() < word.len() && word.contains('-') && !is_inflected(last);
    REQUESTS.contains(&word) || !is_name && parts(last).any(is_state_part)
}

fn is_inflected(part: &str) -> bool {
    part.ends_with("ed")
        || part.ends_with("ing")
        || ["up", "down", "on", "off", "ok", "error"].contains(&part)
}

fn is_state_part(part: &str) -> bool {
    let mut small = [0; MAX_STATE_BYTES];
    let Some(small) = small.get_mut(..part.len()) else { return false };
    small.copy_from_slice(part.as_bytes());
    small.make_ascii_lowercase();
    std::str::from_utf8(small).is_ok_and(|part| STATE.contains(part))
}

/// Whether a name may follow: `for cyrus`, but rather `for user cyrus`.
pub(super) fn is_preposition(word: &str) -> bool {
    ["for", "from", "by", "on", "at"].iter().any(|cue| word.eq_ignore_ascii_case(cue))
}

/// Whether a name is likely to follow.
pub(super) fn is_cue(word: &str) -> bool {
    CUES.split(' ').any(|cue| word.eq_ignore_ascii_case(cue))
}

/// Words that hold sentences together: no name, whatever stands before them.
const FUNCTION: &str = "\
    a after an and are as at be because been before but by can did do does due during for from had has have if \
    in into is it its may of on or over so than that the then this through to too under until via was were when \
    which while will with within without";

pub(super) fn is_function(word: &str) -> bool {
    FUNCTION.split(' ').any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether the word looks like a name: dotted, with signs inside, or very long.
pub(super) fn is_identifier(word: &str) -> bool {
    let inner = word.trim_matches(|sign: char| sign.is_ascii_punctuation());
    inner.contains(['.', '/', '@', '$', '\\']) || inner.len() > 40
}

/// `closeQs`, `SCREEN_ON`, `re-open` → their parts.
fn parts(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| !c.is_alphanumeric()).flat_map(camel)
}

fn camel(part: &str) -> impl Iterator<Item = &str> {
    let bytes = part.as_bytes();
    let starts = (1..bytes.len())
        .filter(|&at| bytes[at].is_ascii_uppercase() && !bytes[at - 1].is_ascii_uppercase())
        .chain([bytes.len()]);
    let mut from = 0;
    starts
        .filter_map(move |to| part.get(std::mem::replace(&mut from, to)..to))
        .filter(|part| !part.is_empty())
}

/// No inflected stem is longer.
const MAX_STATE_BYTES: usize = 20;

/// `stop` → `stop`, `stops`, `stopped`, `stopping`, …: more than there are, so that no stem needs a grammar of its own.
fn inflected(stem: &str) -> impl Iterator<Item = String> {
    const ENDINGS: [&str; 8] = ["", "s", "es", "d", "ed", "ing", "er", "ion"];
    let last = stem.chars().last().unwrap_or_default();
    let doubled = format!("{stem}{last}");
    let without_e = stem.strip_suffix('e').unwrap_or(stem).to_owned();
    let with_i = stem.strip_suffix('y').map_or_else(|| stem.to_owned(), |stem| format!("{stem}i"));
    let words = [stem.to_owned(), doubled, without_e, with_i]
        .into_iter()
        .flat_map(|stem| ENDINGS.into_iter().map(move |ending| format!("{stem}{ending}")));
    words.filter(|word| word.len() > 1)
}
