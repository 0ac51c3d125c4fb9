//! URLs that may hold a login, which is handed to whoever connects and never shown.

use crate::config::secret::redact_url;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// What a URL is to, and which are understood.
pub trait Kind {
    /// Of the type in the schema.
    const NAME: &'static str;

    /// Why `text` is not understood. Must not quote it.
    ///
    /// # Errors
    /// What was expected.
    fn check(text: &str) -> Result<(), String>;
}

/// A URL as it was given; shown without the password that it may hold.
pub struct LoginUrl<K>(String, PhantomData<fn() -> K>);

impl<K> LoginUrl<K> {
    /// The URL to connect by. Never to be printed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<K> Clone for LoginUrl<K> {
    fn clone(&self) -> Self {
        LoginUrl(self.0.clone(), PhantomData)
    }
}

impl<K> PartialEq for LoginUrl<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> fmt::Display for LoginUrl<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.0))
    }
}

impl<K> fmt::Debug for LoginUrl<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> FromStr for LoginUrl<K> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        K::check(text).map(|()| LoginUrl(text.to_owned(), PhantomData))
    }
}

impl<K> Serialize for LoginUrl<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for LoginUrl<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<K: Kind> JsonSchema for LoginUrl<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
