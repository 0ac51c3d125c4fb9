//! Lists as one value, however long they are: so that messages which differ in a list's length alone have one shape.
//!
//! ```text
//!   r00=0x1 r01=0x2 r02=0x3           ─▶  r<*>=<*>
//!   deleted a.log b.log c.log         ─▶  deleted <*>
//!   members [alice, bob, carol]       ─▶  members [<*>]
//! ```
//!
//! Lists of plain values (`1, 2, 3`) are folded while they are read, in [`super::shape`].

use super::shape::{Kind, Shape, Token, WILDCARD};
use super::words;

/// Tokens of the longest stretch whose repetition is a list.
const MAX_PERIOD: usize = 6;
/// Items between commas that are a list outside of brackets, too.
const ITEMS_WITHOUT_BRACKETS: usize = 3;

/// Folds what is a list by its words or its repetition.
pub(super) fn fold(shape: &mut Shape, spare: &mut Vec<Token>) {
    let tokens = shape.tokens();
    if tokens.len() >= 4 && has_repeat(shape) {
        rebuild(shape, spare, drop_repeat);
    }
    let is_comma = |token: &Token| token.kind == Kind::Punct && shape.bytes_of(token) == b",";
    if shape.tokens().iter().any(is_comma) {
        fold_stretches(shape, spare, comma_list);
    }
    let is_name = |at: usize| shape.tokens().get(at).is_some_and(|token| is_dotted(shape, token));
    if (1..shape.tokens().len()).any(|at| is_name(at - 1) && is_name(at)) {
        fold_stretches(shape, spare, dotted_list);
    }
}

/// Copies the shape onto itself token by token; `after` each it may take tokens away.
fn rebuild(shape: &mut Shape, spare: &mut Vec<Token>, after: impl Fn(&mut Shape)) {
    let text = shape.take(spare);
    let mut end = 0;
    for token in spare.iter() {
        shape.push(
            &text[token.start as usize..token.end as usize],
            token.kind,
            token.start > end,
            token.assigned,
        );
        end = token.end;
        after(shape);
    }
    shape.give_back(text);
}

/// Writes one value for each stretch that `length_at` finds (0: none begins here).
fn fold_stretches(shape: &mut Shape, spare: &mut Vec<Token>, length_at: impl Fn(&Shape, usize) -> usize) {
    let lengths: Vec<usize> = (0..shape.tokens().len()).map(|at| length_at(shape, at)).collect();
    if lengths.iter().all(|&length| length == 0) {
        return;
    }
    let text = shape.take(spare);
    let (mut at, mut end) = (0, 0);
    while let Some(token) = spare.get(at) {
        let spaced = token.start > end;
        let length = lengths[at].max(1);
        end = spare[at + length - 1].end;
        match lengths[at] {
            0 => shape.push(
                &text[token.start as usize..token.end as usize],
                token.kind,
                spaced,
                token.assigned,
            ),
            _ => shape.push(WILDCARD.as_bytes(), Kind::Value, spaced, token.assigned),
        }
        at += length;
    }
    shape.give_back(text);
}

fn has_repeat(shape: &Shape) -> bool {
    let count = shape.tokens().len();
    (1..=MAX_PERIOD).any(|period| (2 * period..=count).any(|end| is_repeat(shape, end, period)))
}

fn drop_repeat(shape: &mut Shape) {
    let count = shape.tokens().len();
    if let Some(period) =
        (1..=MAX_PERIOD).find(|&period| count >= 2 * period && is_repeat(shape, count, period))
    {
        shape.truncate(count - period);
    }
}

/// Whether the last tokens before `end` repeat those before them, values among them.
fn is_repeat(shape: &Shape, end: usize, period: usize) -> bool {
    let tokens = shape.tokens();
    let last = &tokens[end - period..end];
    let is_equal = |(at, token): (usize, &Token)| {
        shape.bytes_of(token) == shape.bytes_of(&tokens[end - 2 * period + at])
    };
    // The last token differs most often: look there first.
    last.iter().enumerate().rev().all(is_equal)
        && last.iter().any(|token| matches!(token.kind, Kind::Value | Kind::Mixed))
}

/// Length of the list of words between commas that begins at `from`.
fn comma_list(shape: &Shape, from: usize) -> usize {
    let tokens = shape.tokens();
    let is = |at: usize, word: &[u8]| tokens.get(at).is_some_and(|token| shape.bytes_of(token) == word);
    // Cheaper than telling whether a word may be a name: one item is no list.
    let second = from + if quote(shape, from).is_some() { 3 } else { 1 };
    if !is(second, b",") || from > 0 && is(from - 1, b",") {
        return 0;
    }
    let (mut at, mut items) = (from, 0);
    loop {
        let length = item(shape, at);
        if length == 0 {
            return 0;
        }
        at += length;
        items += 1;
        if !is(at, b",") {
            break;
        }
        at += 1;
    }
    let before = from.checked_sub(1).map_or(&b""[..], |at| shape.bytes_of(&tokens[at]));
    let in_brackets = matches!(before, b"(" | b"[" | b"{") && (is(at, b")") || is(at, b"]") || is(at, b"}"));
    let least = if in_brackets { 2 } else { ITEMS_WITHOUT_BRACKETS };
    if items >= least { at - from } else { 0 }
}

/// Tokens of one item: a word that may be a name, perhaps in quotes.
fn item(shape: &Shape, at: usize) -> usize {
    let tokens = shape.tokens();
    let opened = quote(shape, at);
    let is_item = tokens.get(at + usize::from(opened.is_some())).is_some_and(|token| match token.kind {
        Kind::Punct => false,
        Kind::Value | Kind::Mixed => true,
        Kind::Word => !words::is_state(shape.text_of(token)) && !words::is_function(shape.text_of(token)),
    });
    match opened {
        _ if !is_item => 0,
        None => 1,
        Some(_) if quote(shape, at + 2) == opened => 3,
        Some(_) => 0,
    }
}

fn quote(shape: &Shape, at: usize) -> Option<&[u8]> {
    shape.tokens().get(at).map(|token| shape.bytes_of(token)).filter(|word| matches!(*word, b"\"" | b"'"))
}

/// Length of the run of file names and the like that begins at `from`.
fn dotted_list(shape: &Shape, from: usize) -> usize {
    let tokens = shape.tokens();
    if from > 0 && is_dotted(shape, &tokens[from - 1]) {
        return 0;
    }
    let run = tokens[from..].iter().take_while(|token| is_dotted(shape, token)).count();
    if run >= 2 { run } else { 0 }
}

fn is_dotted(shape: &Shape, token: &Token) -> bool {
    token.kind == Kind::Word && !token.assigned && {
        let word = shape.bytes_of(token);
        word.len() > 3 && memchr::memchr(b'.', &word[1..word.len() - 1]).is_some()
    }
}
