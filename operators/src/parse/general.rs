//! The way for any mapping and any JSON: `serde_json` finds the members, a tree of keys says which are fields.
//!
//! `serde_json` skips values without recursion, so nesting costs no stack however deep it is; this module
//! recurses only along the paths of the mapping.

use super::Reject;
use super::mapping::{Field, MAX_SLOTS, Tree};
use super::metadata;
use super::read::Fields;
use super::text::{Raw, unescape};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smartlog_schema::dead_letter::Reason;
use std::borrow::Cow;
use std::fmt;

/// What the paths of a mapping found, by slot.
pub(super) struct Found<'a> {
    raw: [Raw<'a>; MAX_SLOTS],
    /// Slots that occurred, null included.
    seen: u64,
    /// Slots that occurred more than once.
    duplicate: u64,
    /// Slots that took a whole member of the outermost object.
    top: u64,
}

const _: () = assert!(MAX_SLOTS <= 64, "slots are bits of a u64");

impl<'a> Found<'a> {
    fn record(&mut self, slot: usize, value: Raw<'a>) {
        let bit = 1 << slot;
        if self.seen & bit != 0 {
            self.duplicate |= bit;
            return;
        }
        self.seen |= bit;
        self.raw[slot] = value;
    }

    /// The same by field.
    pub(super) fn fields<'f>(&'f self, tree: &Tree) -> Fields<'f, 'a> {
        let any_twice = |field| tree.slots(field).any(|slot| self.duplicate & (1 << slot) != 0);
        Fields {
            values: Field::ALL.map(|field| &self.raw[tree.slots(field)]),
            duplicate: Field::ALL.map(any_twice),
            whole_members: self.top,
            metadata_is_clean: false,
        }
    }
}

/// Finds the fields in a payload. Members that are no field are written to `unmapped`, if it is given.
///
/// # Errors
/// `InvalidJson`, `NotAnObject`. Nothing is said about the fields themselves yet.
pub(super) fn find<'a>(
    tree: &Tree,
    otlp_values: bool,
    text: &'a str,
    unmapped: Option<&mut String>,
) -> Result<Found<'a>, Reject> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(not_an_object(text));
    }
    let mut found = Found { raw: [Raw::Absent; MAX_SLOTS], seen: 0, duplicate: 0, top: 0 };
    let mut search = Search { tree, otlp_values, found: &mut found };
    search.outermost(text, unmapped).map_err(|error| invalid_json(&error))?;
    Ok(found)
}

fn not_an_object(text: &str) -> Reject {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Reject::new(Reason::NotAnObject, "expected a JSON object, found another JSON value"),
        Err(error) => invalid_json(&error),
    }
}

/// What `serde_json` says of the grammar are fixed words with a position: nothing of the payload's text.
fn invalid_json(error: &serde_json::Error) -> Reject {
    let detail = match error.classify() {
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            Cow::Owned(format!("expected JSON: {error}"))
        }
        _ => Cow::Borrowed("expected JSON, found something else"),
    };
    Reject { reason: Reason::InvalidJson, detail }
}

struct Search<'t, 'f, 'a> {
    tree: &'t Tree,
    otlp_values: bool,
    found: &'f mut Found<'a>,
}

impl<'a> Search<'_, '_, 'a> {
    fn outermost(
        &mut self,
        text: &'a str,
        mut unmapped: Option<&mut String>,
    ) -> Result<(), serde_json::Error> {
        for_each_member(text, &mut |key, value| {
            let known = self.tree.descend(Tree::ROOT, &decoded(key));
            if let Some(node) = known {
                self.visit(node, value);
            }
            let whole_field =
                known.filter(|node| self.tree.is_leaf(*node)).and_then(|node| self.tree.slot(node));
            match (whole_field, unmapped.as_deref_mut()) {
                (Some(slot), _) => self.found.top |= 1 << slot,
                (None, Some(out)) => metadata::write_member(out, key, value),
                (None, None) => {}
            }
        })
    }

    /// Records `value` if the node is a field, and goes into it if it may hold one.
    fn visit(&mut self, node: usize, value: &'a str) {
        if let Some(slot) = self.tree.slot(node) {
            let plain = if self.otlp_values { otlp_value(value) } else { value };
            self.found.record(slot, Raw::of(plain));
        }
        if self.tree.is_leaf(node) {
            return;
        }
        // The text was checked as part of the whole, so neither walk can fail.
        let _ = match value.as_bytes().first() {
            Some(b'{') => for_each_member(value, &mut |key, value| self.step(node, &decoded(key), value)),
            Some(b'[') if self.otlp_values => {
                for_each_attribute(value, &mut |key, value| self.step(node, key, value))
            }
            _ => Ok(()),
        };
    }

    fn step(&mut self, node: usize, key: &str, value: &'a str) {
        if let Some(next) = self.tree.descend(node, key) {
            self.visit(next, value);
        }
    }
}

/// The key that the content of a JSON string stands for.
fn decoded(content: &str) -> Cow<'_, str> {
    if !content.contains('\\') {
        return Cow::Borrowed(content);
    }
    let mut key = String::new();
    unescape(content, &mut key);
    Cow::Owned(key)
}

/// The value inside OTLP's `{"stringValue": …}` (or `intValue` and so on); anything else as it is.
fn otlp_value(value: &str) -> &str {
    let mut inner = None;
    let mut members = 0;
    if value.starts_with('{') {
        let walked = for_each_member(value, &mut |key, value| {
            members += 1;
            if matches!(key, "stringValue" | "intValue" | "doubleValue" | "boolValue") {
                inner = Some(value);
            }
        });
        debug_assert!(walked.is_ok(), "the text was checked as part of the whole");
    }
    inner.filter(|_| members == 1).unwrap_or(value)
}

/// Calls `each` with the content of each key and the text of each value.
fn for_each_member<'a>(
    text: &'a str,
    each: &mut dyn FnMut(&'a str, &'a str),
) -> Result<(), serde_json::Error> {
    struct Members<'a, 'f>(&'f mut dyn FnMut(&'a str, &'a str));
    impl<'a> Visitor<'a> for Members<'a, '_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
            while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
                let key = key.get();
                (self.0)(&key[1..key.len() - 1], value.get());
            }
            Ok(())
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members(each))?;
    json.end()
}

/// Calls `each` with key and value of each of OTLP's `[{"key":"service.name","value":{…}}]`.
fn for_each_attribute<'a>(
    text: &'a str,
    each: &mut dyn FnMut(&str, &'a str),
) -> Result<(), serde_json::Error> {
    struct Elements<'a, 'f>(&'f mut dyn FnMut(&'a str));
    impl<'a> Visitor<'a> for Elements<'a, '_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<S: SeqAccess<'a>>(self, mut elements: S) -> Result<(), S::Error> {
            while let Some(element) = elements.next_element::<&'a RawValue>()? {
                (self.0)(element.get());
            }
            Ok(())
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_seq(Elements(&mut |element| attribute(element, each)))
}

fn attribute<'a>(element: &'a str, each: &mut dyn FnMut(&str, &'a str)) {
    let (mut name, mut content) = (None, None);
    if !element.starts_with('{') {
        return;
    }
    let walked = for_each_member(element, &mut |key, value| match key {
        "key" => name = Some(Raw::of(value)),
        "value" => content = Some(value),
        _ => {}
    });
    debug_assert!(walked.is_ok(), "the text was checked as part of the whole");
    if let (Some(Raw::Plain(name)), Some(content)) = (name, content) {
        each(name, content);
    }
}
