//! The shape of a message: what is left of it once values are masked.
//!
//! ```text
//!   Failed password for root from 10.0.0.7 port 4242 ssh2
//!   ──────words──────────────────  value       value
//!   Failed password for root from <*> port <*> ssh<*>      ──XXH3──▶ shape hash
//! ```
//!
//! A shape is a function of the message alone: no order of arrival, no memory, no setting changes it. It is cut from
//! the first line of a message, in one pass. Masks are general: numbers with their units, dates and times, addresses,
//! paths, identifiers with digits, quoted values, empty values, lists of values. They are those that log parsers have
//! as preprocessing (He et al., Drain, ICWS 2017; Zhu et al., Tools and Benchmarks for Automated Log Parsing, ICSE 2019),
//! as one scanner instead of expressions for each system.

use super::values::Found;
use super::values::class::is_stop;
use super::{lists, values};
use serde::{Deserialize, Serialize};

/// Bytes of a message's first line that its shape is made of; what follows is one more value.
pub const MAX_BYTES: usize = 4096;
/// Tokens of a shape, at the most.
pub const MAX_TOKENS: usize = 160;
/// How a value is written in a shape and in a template.
pub const WILDCARD: &str = "<*>";

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Letters without a digit.
    Word,
    /// Letters with masked digits, as `blk_<*>`.
    Mixed,
    /// A value: `<*>`.
    Value,
    /// Brackets, separators, rulers: no letter and no digit.
    Punct,
}

/// One token of a shape: a stretch of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub start: u32,
    pub end: u32,
    pub kind: Kind,
    /// Written next to a key, as in `key=value` or `key:value`.
    pub assigned: bool,
}

/// What a shape holds that lists are made of.
mod marks {
    pub const COMMA: u8 = 1;
    pub const DOTTED: u8 = 2;
    pub const VALUE: u8 = 4;
    /// More than one.
    pub const VALUES: u8 = 8;
}

/// A shape, and the memory to make the next one in.
#[derive(Debug, Default, Clone)]
pub struct Shape {
    text: Vec<u8>,
    tokens: Vec<Token>,
    mixed: Vec<u8>,
    /// Whether there may be a list.
    marks: u8,
    spare_text: Vec<u8>,
    spare_tokens: Vec<Token>,
}

fn is_space(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

impl Shape {
    /// The shape's text: words as they are, values as `<*>`.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or(WILDCARD)
    }

    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub fn text_of(&self, token: &Token) -> &str {
        std::str::from_utf8(self.bytes_of(token)).unwrap_or(WILDCARD)
    }

    pub(super) fn bytes_of(&self, token: &Token) -> &[u8] {
        &self.text[token.start as usize..token.end as usize]
    }

    /// The shape's hash: stored with every log, so one that never changes.
    pub fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.text)
    }

    /// Makes this the shape of `message`, and gives its hash.
    pub fn read(&mut self, message: &str) -> u64 {
        self.text.clear();
        self.tokens.clear();
        self.marks = 0;
        let line = first_line(message.as_bytes());
        let cut = line.len() > MAX_BYTES;
        let mut end = line.len().min(MAX_BYTES);
        while end < line.len() && !message.is_char_boundary(offset_in(message, line) + end) {
            end -= 1;
        }
        let mut scanner = Scanner { line: &line[..end], at: 0, spaced: false, shape: self };
        let full = scanner.run();
        if cut || full {
            self.push_value(true, false);
        }
        if self.marks & (marks::COMMA | marks::DOTTED | marks::VALUES) != 0 {
            let mut spare = std::mem::take(&mut self.spare_tokens);
            lists::fold(self, &mut spare);
            self.spare_tokens = spare;
        }
        self.hash()
    }

    /// Empties the shape into `tokens` and the text that is given, to be written anew.
    pub(super) fn take(&mut self, tokens: &mut Vec<Token>) -> Vec<u8> {
        std::mem::swap(&mut self.tokens, tokens);
        self.tokens.clear();
        std::mem::replace(&mut self.text, std::mem::take(&mut self.spare_text))
    }

    pub(super) fn give_back(&mut self, mut text: Vec<u8>) {
        text.clear();
        self.spare_text = text;
    }

    pub(super) fn push(&mut self, word: &[u8], kind: Kind, spaced: bool, assigned: bool) {
        if spaced && !self.text.is_empty() {
            self.text.push(b' ');
        }
        self.marks |= match kind {
            Kind::Punct if word == b"," => marks::COMMA,
            Kind::Word if memchr::memchr(b'.', word).is_some() => marks::DOTTED,
            Kind::Value | Kind::Mixed if self.marks & marks::VALUE == 0 => marks::VALUE,
            Kind::Value | Kind::Mixed => marks::VALUES,
            _ => 0,
        };
        let start = self.text.len() as u32;
        self.text.extend_from_slice(word);
        self.tokens.push(Token { start, end: self.text.len() as u32, kind, assigned });
    }

    pub(super) fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
        let end = self.tokens.last().map_or(0, |token| token.end as usize);
        self.text.truncate(end);
    }

    /// Adds a value; one that only carries a list on is part of the value before it.
    fn push_value(&mut self, spaced: bool, assigned: bool) {
        let count = self.tokens.len();
        if let Some(last) = self.tokens.last() {
            if last.kind == Kind::Value {
                return;
            }
            if last.kind == Kind::Punct
                && count >= 2
                && self.tokens[count - 2].kind == Kind::Value
                && self.joins(last)
            {
                self.truncate(count - 1);
                return;
            }
        }
        self.push(WILDCARD.as_bytes(), Kind::Value, spaced, assigned);
    }

    /// Whether values on both sides of this token are one list.
    fn joins(&self, token: &Token) -> bool {
        !self.bytes_of(token).iter().any(|byte| b"()[]{}<>\"'=:".contains(byte))
    }

    fn last_is(&self, word: &[u8]) -> bool {
        self.tokens.last().is_some_and(|token| self.bytes_of(token) == word)
    }
}

fn offset_in(message: &str, line: &[u8]) -> usize {
    line.as_ptr() as usize - message.as_ptr() as usize
}

/// The first line that holds anything.
fn first_line(message: &[u8]) -> &[u8] {
    let start = message.iter().position(|&byte| !is_space(byte)).unwrap_or(message.len());
    let rest = &message[start..];
    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    &rest[..end]
}

struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
    /// Whether a blank stands before what comes next.
    spaced: bool,
    shape: &'a mut Shape,
}

impl Scanner<'_> {
    /// Reads the line; whether it holds more tokens than are kept.
    fn run(&mut self) -> bool {
        while self.at < self.line.len() {
            let byte = self.line[self.at];
            if is_space(byte) {
                self.spaced = true;
                self.at += 1;
                continue;
            }
            if self.shape.tokens.len() >= MAX_TOKENS {
                return true;
            }
            if byte == b'/' || !is_stop(byte) {
                self.word(false);
            } else {
                self.separator(byte);
            }
        }
        false
    }

    fn peek(&self, at: usize) -> u8 {
        self.line.get(at).copied().unwrap_or(b' ')
    }

    fn emit(&mut self, start: usize, end: usize, found: Found, assigned: bool) {
        let spaced = std::mem::take(&mut self.spaced);
        match found {
            Found::Value => self.shape.push_value(spaced, assigned),
            Found::Word => self.shape.push(&self.line[start..end], Kind::Word, spaced, assigned),
            Found::Punct => self.shape.push(&self.line[start..end], Kind::Punct, spaced, false),
            Found::Mixed => {
                let mixed = std::mem::take(&mut self.shape.mixed);
                self.shape.push(&mixed, Kind::Mixed, spaced, assigned);
                self.shape.mixed = mixed;
            }
        }
    }

    /// A word: up to the next blank or separator, with the separators that are part of values.
    fn word(&mut self, assigned: bool) {
        let start = self.at;
        let end = values::end_of_word(self.line, start);
        let trimmed = values::without_stops(&self.line[start..end]);
        self.at = end;
        if trimmed == 0 {
            return self.emit(start, end, Found::Punct, false);
        }
        let word = &self.line[start..start + trimmed];
        let found = match values::is_calendar(word, self.line, end) || self.is_unit(word) {
            true => Found::Value,
            false => values::classify(word, &mut self.shape.mixed),
        };
        self.emit(start, start + trimmed, found, assigned);
        if start + trimmed < end {
            self.emit(start + trimmed, end, Found::Punct, false);
        }
    }

    /// Whether this is the unit of the value before it.
    fn is_unit(&self, word: &[u8]) -> bool {
        self.shape.tokens.last().is_some_and(|last| last.kind == Kind::Value) && values::is_unit(word)
    }

    fn separator(&mut self, byte: u8) {
        let (before, after) = (self.spaced, self.peek(self.at + 1));
        match byte {
            b'<' | b'>' if after.is_ascii_digit() && (before || self.at == 0 || self.shape.last_is(b"=")) => {
                self.at += 1; // `<1 sec` is a value.
            }
            b':' if after == b':'
                && self.peek(self.at + 2).is_ascii_hexdigit()
                && (before || self.at == 0 || b"([{=,\"'".contains(&self.line[self.at - 1])) =>
            {
                let end = values::end_of_word(self.line, self.at + 2);
                let start = std::mem::replace(&mut self.at, end);
                self.emit(start, end, Found::Value, false);
            }
            b':' if !before && (after.is_ascii_digit() && self.is_port() || self.is_more_of_value()) => {}
            b'=' => self.assignment(before),
            b'(' | b'[' if before && after == byte + 1 + u8::from(byte == b'[') => {
                self.punct(1);
                self.emit(self.at, self.at, Found::Value, false);
                self.punct(1);
            }
            b':' => {
                let key_is_quoted = self.shape.last_is(b"\"");
                self.punct(1);
                if key_is_quoted {
                    self.skip_blanks();
                    self.assigned_value();
                } else if !before && !is_space(after) && after != b'/' {
                    self.assigned_value();
                }
            }
            _ => {
                let run = self.line[self.at..].iter().take_while(|&&next| next == byte).count();
                self.punct(if b"()[]{}<>".contains(&byte) { 1 } else { run });
            }
        }
    }

    fn punct(&mut self, length: usize) {
        let start = self.at;
        self.at += length;
        self.emit(start, start + length, Found::Punct, false);
    }

    fn skip_blanks(&mut self) {
        while self.at < self.line.len() && is_space(self.line[self.at]) {
            self.at += 1;
            self.spaced = true;
        }
    }

    /// `host:port`: the port goes with the host. Reads it if it is one.
    fn is_port(&mut self) -> bool {
        let digits = self.line[self.at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends = is_stop(self.peek(self.at + 1 + digits));
        let Some(last) = self.shape.tokens.last().copied() else { return false };
        let is_host = last.kind == Kind::Value || values::is_host(self.shape.bytes_of(&last));
        if !(ends && is_host) {
            return false;
        }
        self.at += 1 + digits;
        if last.kind != Kind::Value {
            let tokens = &self.shape.tokens;
            let spaced = tokens.len() > 1 && tokens[tokens.len() - 2].end != last.start;
            self.shape.truncate(self.shape.tokens.len() - 1);
            self.shape.push_value(spaced, last.assigned);
        }
        true
    }

    /// `<value>:7f-3a`: what stands next to a value and is one itself goes with it. Reads it if it is so.
    fn is_more_of_value(&mut self) -> bool {
        let is_value = self.shape.tokens.last().is_some_and(|last| last.kind == Kind::Value);
        let start = self.at + 1;
        if !is_value || is_stop(self.peek(start)) {
            return false;
        }
        let end = values::end_of_word(self.line, start);
        let word = &self.line[start..end];
        let more = word.iter().any(u8::is_ascii_digit)
            && values::classify(word, &mut self.shape.mixed) == Found::Value;
        if more {
            self.at = end;
        }
        more
    }

    /// What follows `=`: a value, also if it is empty, quoted, or several words up to a closing bracket.
    fn assignment(&mut self, before: bool) {
        let run = self.line[self.at..].iter().take_while(|&&next| next == b'=').count();
        self.punct(run);
        let glued = !is_space(self.peek(self.at)) && self.at < self.line.len();
        let is_empty = match glued {
            true => b",;)]}".contains(&self.peek(self.at)),
            false => !before && values::next_is_key_or_end(self.line, self.at),
        };
        if is_empty {
            return self.emit(self.at, self.at, Found::Value, true);
        }
        self.skip_blanks();
        self.assigned_value();
    }

    /// The value next to a key.
    fn assigned_value(&mut self) {
        let first = self.peek(self.at);
        if first == b'"' || first == b'\'' {
            let rest = &self.line[self.at + 1..];
            if let Some(length) = memchr::memchr(first, rest) {
                let start = self.at + 1;
                self.at = start + length + 1;
                let content = &self.line[start..start + length];
                let found = match content.iter().any(|&byte| is_stop(byte)) || content.is_empty() {
                    true => Found::Value,
                    false => values::classify(content, &mut self.shape.mixed),
                };
                self.emit(start, start + length, found, true);
            }
            return;
        }
        if let Some(end) = values::end_of_value(self.line, self.at) {
            let start = std::mem::replace(&mut self.at, end);
            return self.emit(start, end, Found::Value, true);
        }
        if self.at < self.line.len() && (first == b'/' || !is_stop(first)) {
            self.word(true);
        }
    }
}
