//! What is published for readers that follow along without asking the store: names of keys and fields.
//!
//! ```text
//!   PREFIX:IDENTITY:anomalies   stream; the entry of change `seq` has the id `seq-0` and the fields of [`Field`]
//!   PREFIX:IDENTITY:windows     hash: service → its current window as JSON; the empty service is the whole stream
//! ```
//!
//! `IDENTITY` is the store's (`pipeline_state.identity`), so that two stores never mix and a new one begins with nothing.

/// Names of the keys of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub anomalies: String,
    pub windows: String,
}

impl Keys {
    pub fn new(prefix: &str, identity: &str) -> Self {
        let key = |name: &str| format!("{prefix}:{identity}:{name}");
        Keys { anomalies: key("anomalies"), windows: key("windows") }
    }
}

/// A field of an entry: a column of `anomaly_events`, times in microseconds. A null is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Kind,
    Reason,
    Clock,
    AnomalyId,
    Revision,
    Status,
    Episode,
    CreatedAt,
    /// The anomaly's feedback when the change was published.
    Feedback,
}

impl Field {
    pub const fn as_str(self) -> &'static str {
        match self {
            Field::Kind => "kind",
            Field::Reason => "reason",
            Field::Clock => "clock_us",
            Field::AnomalyId => "anomaly_id",
            Field::Revision => "revision",
            Field::Status => "status",
            Field::Episode => "episode",
            Field::CreatedAt => "created_at_us",
            Field::Feedback => "feedback",
        }
    }
}

/// The id of the entry of a change.
pub fn entry_id(seq: i64) -> String {
    format!("{seq}-0")
}

/// The change that an entry's id names; `None` for what nobody of ours wrote.
pub fn seq_of(id: &str) -> Option<i64> {
    id.strip_suffix("-0")?.parse().ok().filter(|seq| *seq > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_change_and_nothing_else_does() {
        assert_eq!(seq_of(&entry_id(42)), Some(42));
        for strange in ["42", "42-1", "-1-0", "0-0", "x-0", ""] {
            assert_eq!(seq_of(strange), None, "{strange}");
        }
    }
}
