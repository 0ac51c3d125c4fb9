//! The two tables in DynamoDB.
//!
//! ```text
//!  daily_summaries        (date, service)      the sums: what people read
//!  summary_contributions  (object, "head")     which version of an object counts, or that it is void
//!                         (object, "service#") what it adds, by service
//!                         ("usage", day)       what this function used: calls, time, units
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, Delete, KeysAndAttributes, Put, ReturnConsumedCapacity,
    TransactWriteItem,
};
use jiff::Timestamp;
use jiff::civil::Date;

use crate::contribution::{ByService, Change, Counts};
use crate::event::Sequencer;
use crate::failure::Failure;
use crate::usage::Units;

/// DynamoDB takes 100 items in a transaction: the head, and per service its contribution and its sum.
pub const MAX_SERVICES_PER_TRANSACTION: usize = 49;

const HEAD: &str = "head";
const SERVICE: &str = "service#";
/// How often what DynamoDB left out of an answer is asked for again.
const MAX_UNPROCESSED_ROUNDS: usize = 8;

type Item = HashMap<String, AttributeValue>;

/// What is known of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Raised by each change; 0: never seen. Whoever writes names the version that it read, so that of two only one goes on.
    pub version: u64,
    /// Of the newest event that was worked on.
    pub sequencer: Option<Sequencer>,
    /// Of the content that counts.
    pub etag: String,
    /// Whether the contributions are those of `etag`; false while a change of many services is under way.
    pub applied: bool,
    /// Whether a manifest said that it no longer counts; stays so.
    pub voided: bool,
}

/// An object's head and contributions at one moment.
#[derive(Debug, Default)]
pub struct State {
    pub head: Head,
    pub contributions: ByService,
}

/// One service: what changes, and the sum that was read before.
#[derive(Debug)]
pub struct SumChange<'a> {
    pub change: &'a Change,
    pub sum: Option<Counts>,
}

/// Whether a transaction went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Somebody else changed the head or a sum meanwhile, or DynamoDB is busy: read anew and try again.
    Conflict,
}

/// The tables, and the units that using them took since they were last asked for.
pub struct Store {
    client: Client,
    summaries: String,
    contributions: String,
    spent: Mutex<Units>,
}

impl Store {
    pub fn new(client: Client, summaries: String, contributions: String) -> Self {
        Self { client, summaries, contributions, spent: Mutex::default() }
    }

    /// Head and contributions of an object.
    pub async fn load(&self, object: &str) -> Result<State, Failure> {
        let mut state = State::default();
        let mut from = None;
        loop {
            let query = self.client.query().table_name(&self.contributions).consistent_read(true);
            let query = query.key_condition_expression("#o = :o").expression_attribute_names("#o", "object");
            let query = query.expression_attribute_values(":o", AttributeValue::S(object.to_owned()));
            let query =
                query.return_consumed_capacity(ReturnConsumedCapacity::Total).set_exclusive_start_key(from);
            let page = query.send().await.map_err(|e| failed("Query", &self.contributions, &e))?;
            self.spend_read(page.consumed_capacity());
            for item in page.items() {
                add_item(&mut state, item)?;
            }
            from = page.last_evaluated_key().cloned();
            if from.is_none() {
                return Ok(state);
            }
        }
    }

    /// The sums of a day's services, of those that have one.
    pub async fn sums(&self, date: Date, services: &[&str]) -> Result<BTreeMap<String, Counts>, Failure> {
        let mut sums = BTreeMap::new();
        if services.is_empty() {
            return Ok(sums);
        }
        let mut keys = KeysAndAttributes::builder().consistent_read(true);
        for service in services {
            keys = keys.keys(summary_key(date, service));
        }
        let keys = keys.build().map_err(|e| Failure::transient(e.to_string()))?;
        let mut wanted = Some(HashMap::from([(self.summaries.clone(), keys)]));
        for _ in 0..MAX_UNPROCESSED_ROUNDS {
            let request =
                self.client.batch_get_item().return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer = request.set_request_items(wanted).send().await;
            let answer = answer.map_err(|e| failed("BatchGetItem", &self.summaries, &e))?;
            answer.consumed_capacity().iter().for_each(|c| self.spend_read(Some(c)));
            for item in answer.responses().and_then(|all| all.get(&self.summaries)).into_iter().flatten() {
                sums.insert(text(item, "service")?.to_owned(), counts(item)?);
            }
            wanted = answer.unprocessed_keys().filter(|left| !left.is_empty()).cloned();
            if wanted.is_none() {
                return Ok(sums);
            }
        }
        Err(Failure::transient(format!(
            "{} did not give all of its items: too many requests",
            self.summaries
        )))
    }

    /// One transaction: the head, on condition that it has the version `expected`; contributions and sums of at most [`MAX_SERVICES_PER_TRANSACTION`] services.
    pub async fn write(
        &self,
        object: &str,
        date: Date,
        (expected, head): (u64, &Head),
        changes: &[SumChange<'_>],
        now: Timestamp,
    ) -> Result<Written, Failure> {
        let mut items = vec![self.head(object, expected, head)?];
        for each in changes {
            items.push(self.contribution(object, date, each.change)?);
            items.push(self.sum(date, each, now)?);
        }
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(answer) => {
                answer.consumed_capacity().iter().for_each(|c| self.spend_write(Some(c)));
                Ok(Written::Done)
            }
            Err(error) if is_conflict(&error) => Ok(Written::Conflict),
            Err(error) => Err(failed("TransactWriteItems", &self.summaries, &error)),
        }
    }

    /// Adds what a call used to the day's ledger.
    pub async fn record_usage(&self, day: Date, used: &[(&str, f64)]) -> Result<(), Failure> {
        let mut update =
            self.client.update_item().table_name(&self.contributions).key("object", string("usage"));
        update = update.key("part", string(day.to_string()));
        let mut terms = Vec::with_capacity(used.len());
        for (at, (name, amount)) in used.iter().enumerate() {
            terms.push(format!("#n{at} :v{at}"));
            update = update.expression_attribute_names(format!("#n{at}"), *name);
            update =
                update.expression_attribute_values(format!(":v{at}"), AttributeValue::N(amount.to_string()));
        }
        let update = update.update_expression(format!("ADD {}", terms.join(", ")));
        update.send().await.map_err(|e| failed("UpdateItem", &self.contributions, &e))?;
        Ok(())
    }

    /// The units used since the last call of this.
    pub fn take_spent(&self) -> Units {
        self.spent.lock().map(|mut spent| std::mem::take(&mut *spent)).unwrap_or_default()
    }

    fn spend_read(&self, consumed: Option<&ConsumedCapacity>) {
        if let Ok(mut spent) = self.spent.lock() {
            spent.read += consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        }
    }

    fn spend_write(&self, consumed: Option<&ConsumedCapacity>) {
        if let Ok(mut spent) = self.spent.lock() {
            spent.write += consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        }
    }

    fn head(&self, object: &str, expected: u64, head: &Head) -> Result<TransactWriteItem, Failure> {
        let condition = if expected == 0 { "attribute_not_exists(#v)" } else { "#v = :v" };
        let values = (expected > 0)
            .then(|| HashMap::from([(":v".to_owned(), AttributeValue::N(expected.to_string()))]));
        let mut item = part_key(object, HEAD);
        item.insert("version".into(), AttributeValue::N(head.version.to_string()));
        item.insert("etag".into(), string(&head.etag));
        item.insert("applied".into(), AttributeValue::Bool(head.applied));
        item.insert("voided".into(), AttributeValue::Bool(head.voided));
        if let Some(sequencer) = &head.sequencer {
            item.insert("sequencer".into(), string(sequencer.as_str()));
        }
        let put = Put::builder()
            .table_name(&self.contributions)
            .set_item(Some(item))
            .condition_expression(condition);
        let put = put.expression_attribute_names("#v", "version").set_expression_attribute_values(values);
        Ok(TransactWriteItem::builder().put(put.build().map_err(unbuilt)?).build())
    }

    fn contribution(&self, object: &str, date: Date, change: &Change) -> Result<TransactWriteItem, Failure> {
        let key = part_key(object, &format!("{SERVICE}{}", change.service));
        if change.new.is_zero() {
            let delete = Delete::builder()
                .table_name(&self.contributions)
                .set_key(Some(key))
                .build()
                .map_err(unbuilt)?;
            return Ok(TransactWriteItem::builder().delete(delete).build());
        }
        let mut item = key;
        item.insert("date".into(), string(date.to_string()));
        set_counts(&mut item, change.new);
        let put =
            Put::builder().table_name(&self.contributions).set_item(Some(item)).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn sum(&self, date: Date, each: &SumChange<'_>, now: Timestamp) -> Result<TransactWriteItem, Failure> {
        let service = &each.change.service;
        let old = each.sum.unwrap_or_default();
        let new = old.replaced(each.change.old, each.change.new);
        if [new.logs, new.errors, new.message_chars, new.anomalies].iter().any(|n| *n < 0) {
            return Err(Failure::broken(format!(
                "the sum of {date} {service} in {} would fall below zero: somebody else changed the table. \
                 Make it anew from the files (docs/AWS_SETUP.md)",
                self.summaries
            )));
        }
        // On the values, not on a counter: a sum that went and came again with the same values is the same sum.
        let (condition, names, values) = sum_condition(each.sum);
        if new.is_zero() {
            let delete =
                Delete::builder().table_name(&self.summaries).set_key(Some(summary_key(date, service)));
            let delete = delete.condition_expression(condition).set_expression_attribute_names(Some(names));
            let delete = delete.set_expression_attribute_values(values).build().map_err(unbuilt)?;
            return Ok(TransactWriteItem::builder().delete(delete).build());
        }
        let mut item = summary_key(date, service);
        set_counts(&mut item, new);
        item.insert("processed_at".into(), string(format!("{now:.0}")));
        if let Some(average) = new.average_message_length() {
            item.insert("avg_message_length".into(), AttributeValue::N(average.to_string()));
        }
        let put =
            Put::builder().table_name(&self.summaries).set_item(Some(item)).condition_expression(condition);
        let put = put.set_expression_attribute_names(Some(names)).set_expression_attribute_values(values);
        Ok(TransactWriteItem::builder().put(put.build().map_err(unbuilt)?).build())
    }
}

type Condition = (String, HashMap<String, String>, Option<HashMap<String, AttributeValue>>);

fn sum_condition(sum: Option<Counts>) -> Condition {
    let Some(sum) = sum else {
        return ("attribute_not_exists(#d)".into(), HashMap::from([("#d".into(), "date".into())]), None);
    };
    let (mut terms, mut names, mut values) = (Vec::new(), HashMap::new(), HashMap::new());
    for (at, (name, number)) in numbers(sum).into_iter().enumerate() {
        terms.push(format!("#n{at} = :v{at}"));
        names.insert(format!("#n{at}"), name.to_owned());
        values.insert(format!(":v{at}"), AttributeValue::N(number.to_string()));
    }
    (terms.join(" AND "), names, Some(values))
}

fn numbers(counts: Counts) -> [(&'static str, i64); 4] {
    [
        ("total_logs", counts.logs),
        ("error_count", counts.errors),
        ("message_chars", counts.message_chars),
        ("anomaly_count", counts.anomalies),
    ]
}

fn set_counts(item: &mut Item, counts: Counts) {
    for (name, number) in numbers(counts) {
        item.insert(name.to_owned(), AttributeValue::N(number.to_string()));
    }
}

fn counts(item: &Item) -> Result<Counts, Failure> {
    let [logs, errors, message_chars, anomalies] =
        ["total_logs", "error_count", "message_chars", "anomaly_count"].map(|name| number(item, name));
    Ok(Counts { logs: logs?, errors: errors?, message_chars: message_chars?, anomalies: anomalies? })
}

fn add_item(state: &mut State, item: &Item) -> Result<(), Failure> {
    let part = text(item, "part")?;
    if let Some(service) = part.strip_prefix(SERVICE) {
        state.contributions.insert(service.to_owned(), counts(item)?);
    } else if part == HEAD {
        let flag = |name| item.get(name).and_then(|value| value.as_bool().ok()).copied().unwrap_or_default();
        state.head = Head {
            version: number(item, "version")?.unsigned_abs(),
            sequencer: item
                .get("sequencer")
                .and_then(|s| s.as_s().ok())
                .and_then(|digits| Sequencer::new(digits)),
            etag: text(item, "etag")?.to_owned(),
            applied: flag("applied"),
            voided: flag("voided"),
        };
    }
    Ok(())
}

fn number(item: &Item, name: &str) -> Result<i64, Failure> {
    let found = item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    found.ok_or_else(|| {
        Failure::broken(format!("expected a whole number in '{name}' of an item, found {:?}", item.get(name)))
    })
}

fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, Failure> {
    let found = item.get(name).and_then(|value| value.as_s().ok());
    found.map(String::as_str).ok_or_else(|| Failure::broken(format!("expected text in '{name}' of an item")))
}

fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn part_key(object: &str, part: &str) -> Item {
    HashMap::from([("object".to_owned(), string(object)), ("part".to_owned(), string(part))])
}

fn summary_key(date: Date, service: &str) -> Item {
    HashMap::from([("date".to_owned(), string(date.to_string())), ("service".to_owned(), string(service))])
}

fn unbuilt(error: aws_sdk_dynamodb::error::BuildError) -> Failure {
    Failure::transient(error.to_string())
}

/// Reasons of a cancelled transaction that pass by themselves or by reading anew.
const CONFLICTS: [&str; 5] = [
    "None",
    "ConditionalCheckFailed",
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
];

fn is_conflict<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .all(|reason| reason.code().is_none_or(|code| CONFLICTS.contains(&code))),
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => true,
        _ => false,
    }
}

fn failed<E: std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    call: &str,
    table: &str,
    error: &SdkError<E, R>,
) -> Failure {
    Failure::transient(format!("{call} on {table} failed: {}", DisplayErrorContext(error)))
}
