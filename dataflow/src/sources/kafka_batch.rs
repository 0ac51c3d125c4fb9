//! Batches of Kafka records without a copy: the one place with `unsafe` code.
//!
//! rdkafka offers one message at a time, at the price of an event and a reference count each; librdkafka's own batch
//! call takes a third less processor time per message. This module wraps that call: [`drain`] fetches what is queued,
//! [`Batch`] owns the messages and gives them back when dropped.
#![expect(
    unsafe_code,
    reason = "librdkafka's batch call has no safe counterpart; each block says why it is sound"
)]

use super::kafka_client::Client;
use rdkafka::ClientContext as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t::{
    RD_KAFKA_RESP_ERR__PARTITION_EOF as PARTITION_EOF, RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
};
use smartlog_operators::record::{Record, Records};
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Lines of the client's log passed on at a time.
const LINES_PER_DRAIN: usize = 64;

/// The queue into which the client puts the records of all its assigned partitions.
pub struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// The client's own log: served from the consumer queue it would be printed, past our log.
    log: NonNull<sys::rd_kafka_queue_t>,
    client: Arc<Client>,
    buffer: Vec<*mut sys::rd_kafka_message_t>,
}

/// What the queue held besides records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The partition is read up to `offset`, for now.
    End {
        topic: String,
        partition: i32,
        offset: i64,
    },
    Error {
        topic: String,
        partition: i32,
        code: RDKafkaErrorCode,
        message: String,
    },
}

struct Message {
    message: NonNull<sys::rd_kafka_message_t>,
    slot: u32,
}

/// Records fetched together. Holds on to the client, which owns the memory behind them.
pub struct Batch {
    messages: Vec<Message>,
    _client: Arc<Client>,
}

impl Queue {
    /// The consumer queue of `client`, which must have a `group.id` (it is what gives it that queue).
    pub fn of(client: Arc<Client>) -> anyhow::Result<Self> {
        // SAFETY: the pointer is valid while `client` lives, and the queue handle that comes back is kept together
        // with it and given back before it (field order and `Drop`).
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| {
            anyhow::anyhow!("the Kafka client has no consumer queue: it was made without group.id")
        })?;
        // SAFETY: as above; a queue of its own, given back in `Drop`, to which the client holds a reference besides.
        let log = unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) };
        let log = NonNull::new(log)
            .ok_or_else(|| anyhow::anyhow!("the Kafka client gives no queue for its log"))?;
        // SAFETY: both pointers are valid. It fails only where the log has no queue, and then nothing is lost by it.
        unsafe { sys::rd_kafka_set_log_queue(client.client().native_ptr(), log.as_ptr()) };
        // What was said until now lies in the consumer queue; this client still reads nothing else.
        for _ in 0..LINES_PER_DRAIN {
            let _ = client.poll(Duration::ZERO);
        }
        Ok(Queue { queue, log, client, buffer: Vec::new() })
    }

    /// Hands what the client has to say to our log.
    fn pass_log_on(&self) {
        for _ in 0..LINES_PER_DRAIN {
            // SAFETY: the queue is valid while `self` is.
            let event = unsafe { sys::rd_kafka_queue_poll(self.log.as_ptr(), 0) };
            if event.is_null() {
                return;
            }
            let (mut facility, mut text, mut level) = (std::ptr::null(), std::ptr::null(), 0);
            // SAFETY: the event is ours until it is destroyed; where it is a line of the log, it fills in two C strings
            // that live as long as it does, and which are copied before.
            unsafe {
                let failed = sys::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level);
                if failed == 0 && !facility.is_null() && !text.is_null() {
                    let (facility, text) =
                        (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy());
                    self.client.context().log(level_of(level), &facility, &text);
                }
                sys::rd_kafka_event_destroy(event);
            }
        }
    }

    /// Takes up to `most` queued records without waiting. `slot_of` names each record's partition and the offset at
    /// which that ends for us; a record beyond, or of no known partition, is given back at once.
    pub fn drain(
        &mut self,
        most: usize,
        mut slot_of: impl FnMut(&str, i32) -> Option<(u32, i64)>,
    ) -> (Batch, Vec<Notice>) {
        self.pass_log_on();
        self.buffer.clear();
        self.buffer.resize(most, std::ptr::null_mut());
        // SAFETY: the buffer has room for `most` pointers, and librdkafka writes no more than that many.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.buffer.as_mut_ptr(),
                self.buffer.len(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(most);
        let mut messages = Vec::with_capacity(count);
        let mut notices = Vec::new();
        let mut last = None;
        for message in self.buffer[..count].iter().filter_map(|message| NonNull::new(*message)) {
            // SAFETY: librdkafka handed the message over to us, valid until we destroy it.
            let head = unsafe { message.as_ref() };
            if head.err == NO_ERROR {
                let slot = match last {
                    Some((topic, partition, slot)) if topic == head.rkt && partition == head.partition => {
                        slot
                    }
                    _ => slot_of(&topic_name(head), head.partition),
                };
                last = Some((head.rkt, head.partition, slot));
                if let Some((slot, _)) = slot.filter(|(_, end)| head.offset < *end) {
                    messages.push(Message { message, slot });
                    continue;
                }
            } else {
                notices.push(notice(head));
            }
            // SAFETY: ours, and dropped from every list.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
        }
        (Batch { messages, _client: Arc::clone(&self.client) }, notices)
    }

    /// Records that were fetched and not taken yet, notices among them.
    pub fn fetched(&self) -> usize {
        // SAFETY: the queue is valid while `self` is.
        unsafe { sys::rd_kafka_queue_length(self.queue.as_ptr()) }
    }

    /// The end of a partition as of the newest fetch; `None` before the first.
    pub fn cached_end(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: valid pointers to a C string and two integers; the call only copies what the client has cached.
        let error = unsafe {
            let client = self.client.client().native_ptr();
            sys::rd_kafka_get_watermark_offsets(
                client,
                topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        (error == NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: taken in `of`, given back once; the client still lives.
        unsafe {
            sys::rd_kafka_queue_destroy(self.log.as_ptr());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// syslog's levels, as librdkafka counts them.
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

fn topic_name(message: &sys::rd_kafka_message_t) -> String {
    if message.rkt.is_null() {
        return String::new();
    }
    // SAFETY: the topic handle of a live message is live, and its name is a C string that it owns.
    unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)) }.to_string_lossy().into_owned()
}

fn notice(message: &sys::rd_kafka_message_t) -> Notice {
    let (topic, partition) = (topic_name(message), message.partition);
    if message.err == PARTITION_EOF {
        return Notice::End { topic, partition, offset: message.offset };
    }
    // SAFETY: for an error the payload is its description, a C string of librdkafka's that lives with the message.
    let text = unsafe { CStr::from_ptr(sys::rd_kafka_message_errstr(message)) };
    Notice::Error { topic, partition, code: message.err.into(), message: text.to_string_lossy().into_owned() }
}

impl Batch {
    /// Slot and offset of the last record of every stretch of one partition.
    pub fn stretches(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.messages.chunk_by(|a, b| a.slot == b.slot).filter_map(|stretch| {
            let last = stretch.last()?;
            // SAFETY: owned by this batch.
            Some((last.slot, unsafe { last.message.as_ref() }.offset))
        })
    }
}

impl Records for Batch {
    fn len(&self) -> usize {
        self.messages.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let Message { message, slot } = self.messages[index];
        // SAFETY: owned by this batch until it is dropped, so everything borrowed from it lives as long as `self`.
        unsafe {
            let head = message.as_ref();
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let time_ms = sys::rd_kafka_message_timestamp(message.as_ptr(), &raw mut kind);
            let payload = (!head.payload.is_null())
                .then(|| std::slice::from_raw_parts(head.payload.cast::<u8>().cast_const(), head.len));
            let record_time_us = (time_ms > 0).then(|| time_ms.saturating_mul(1000));
            Record { slot, offset: head.offset, record_time_us, payload }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: taken over in `drain`, given back once.
            unsafe { sys::rd_kafka_message_destroy(message.message.as_ptr()) };
        }
    }
}

impl Clone for Message {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for Message {}
