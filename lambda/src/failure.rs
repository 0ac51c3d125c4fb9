//! Why an object could not be counted, and whether it is worth trying again.

use std::fmt;

/// One object's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub fault: Fault,
    pub text: String,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The key or the event is none of ours.
    NotOurs,
    /// The object cannot be read as what its key says.
    Broken,
    /// S3 or DynamoDB did not do what they should; passes by itself.
    Transient,
    /// Others kept changing the same numbers; passes by itself.
    Contended,
}

impl Failure {
    pub fn not_ours(text: impl Into<String>) -> Self {
        Self { fault: Fault::NotOurs, text: text.into() }
    }

    pub fn broken(text: impl Into<String>) -> Self {
        Self { fault: Fault::Broken, text: text.into() }
    }

    pub fn transient(text: impl Into<String>) -> Self {
        Self { fault: Fault::Transient, text: text.into() }
    }

    pub fn contended(text: impl Into<String>) -> Self {
        Self { fault: Fault::Contended, text: text.into() }
    }
}

impl Fault {
    /// The word in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOurs => "not_ours",
            Self::Broken => "broken",
            Self::Transient => "transient",
            Self::Contended => "contended",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fault.as_str(), self.text)
    }
}

impl std::error::Error for Failure {}
