//! The limit of every Kafka consumer on this machine: take all records of a topic and do nothing with them.
//!
//! It runs as a process of its own, so that its start counts as the program's does, with the program's client
//! settings, in as many threads as the program has workers, each with a client and every so many-th partition.
#![expect(
    unsafe_code,
    reason = "librdkafka's batch call has no safe counterpart; each block says why it is sound"
)]

use anyhow::Context as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR;
use smartlog::sources::kafka::{Settings, describe};
use smartlog::sources::kafka_client::{Client, client};
use std::io::Write as _;
use std::process::Command;
use std::ptr::NonNull;

/// The argument that makes this program a drain.
pub const WORD: &str = "drain";
/// Records taken at a time, as the program does.
const MOST: usize = 4096;
/// How long the call may wait for that many.
const WAIT_MS: i32 = 1;

/// The drain as a process.
pub fn command(brokers: &str, topic: &str, threads: usize) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORD, brokers, topic, &threads.to_string()]);
    Ok(command)
}

/// The process: prints the number of records and of bytes.
pub fn main(arguments: &[String]) -> anyhow::Result<()> {
    let [brokers, topic, threads] = arguments else { anyhow::bail!("expected {WORD} BROKERS TOPIC THREADS") };
    let threads: usize = threads.parse().context("THREADS")?;
    let settings =
        Settings { brokers: brokers.clone(), group: "smartlog-bench".to_owned(), ..Settings::default() };
    let ends = describe(&client(&settings)?, topic)?;
    let drained: anyhow::Result<Vec<(u64, u64)>> = std::thread::scope(|scope| {
        let start = |thread: usize| {
            let share: Vec<(i32, i64, i64)> = ends
                .iter()
                .filter(|(source, ..)| source.partition as usize % threads == thread)
                .map(|(source, begin, end)| (source.partition, *begin, *end))
                .collect();
            let settings = &settings;
            scope.spawn(move || drain(&client(settings)?, topic, &share))
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<(u64, u64)>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        };
        running.into_iter().map(join).collect()
    });
    let (records, bytes) = drained?.iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    writeln!(std::io::stdout(), "{records} {bytes}")?;
    // Closing the clients is no part of reading.
    std::io::stdout().flush()?;
    std::process::exit(0);
}

/// Reads the partitions from their first to before their end offset; gives how many records and bytes.
fn drain(client: &Client, topic: &str, share: &[(i32, i64, i64)]) -> anyhow::Result<(u64, u64)> {
    let mut list = TopicPartitionList::new();
    for (partition, begin, _) in share {
        list.add_partition_offset(topic, *partition, Offset::Offset(*begin))?;
    }
    client.assign(&list)?;
    // SAFETY: the pointer is valid while `client` lives, which is longer than this function.
    let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
    let queue = NonNull::new(queue).context("the Kafka client has no consumer queue")?;
    let mut left: i64 = share.iter().map(|(_, begin, end)| end - begin).sum();
    let (mut records, mut bytes) = (0, 0);
    let mut batch: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); MOST];
    while left > 0 {
        // SAFETY: the batch has room for as many pointers as it says, and the queue is ours.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(queue.as_ptr(), WAIT_MS, batch.as_mut_ptr(), batch.len())
        };
        for message in &batch[..usize::try_from(taken).unwrap_or(0)] {
            // SAFETY: librdkafka handed the message over to us, valid until we destroy it, once.
            let (error, length) = unsafe {
                let (error, length) = ((**message).err, (**message).len);
                sys::rd_kafka_message_destroy(*message);
                (error, length)
            };
            if error == NO_ERROR {
                records += 1;
                bytes += length as u64;
                left -= 1;
            }
        }
    }
    // SAFETY: taken above, given back once; the client still lives.
    unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) };
    Ok((records, bytes))
}
