//! NDJSON files and the standard input, plain, gzip or zstd (told by their first bytes). One partition per file; the
//! offset is the line, from 0.
//!
//! Files are read and decompressed by a thread each, a few chunks ahead; the worker never waits for a disk.

use super::{Assignment, Reader, Waker};
use anyhow::Context;
use memchr::memchr_iter;
use smartlog_operators::record::{Partition, Record, Records};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Bytes per chunk; a line longer than this makes its chunk longer.
const CHUNK_BYTES: usize = 1 << 18;
/// Chunks read ahead per file.
const CHUNKS_AHEAD: usize = 4;
/// A line longer than this is cut there: the parser makes a dead letter of it without holding all of it.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Lines as they lie in the file.
struct Chunk {
    bytes: Vec<u8>,
    /// End of each line in `bytes`, line break not included, and where the next begins.
    lines: Vec<(u32, u32)>,
    first_line: i64,
    slot: u32,
}

impl Records for Chunk {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let (start, end) = self.lines[index];
        let line = &self.bytes[start as usize..end as usize];
        let payload = Some(line.strip_suffix(b"\r").unwrap_or(line));
        Record { slot: self.slot, offset: self.first_line + index as i64, record_time_us: None, payload }
    }
}

struct Slot {
    assignment: Assignment,
    chunks: Receiver<anyhow::Result<Chunk>>,
    next_line: i64,
    ended: bool,
    paused: bool,
}

/// One worker's files.
pub struct FileReader {
    paths: Vec<PathBuf>,
    waker: Waker,
    slots: Vec<Slot>,
    /// Slots take turns.
    turn: VecDeque<u32>,
}

impl FileReader {
    pub fn new(paths: Vec<PathBuf>, waker: Waker) -> Self {
        FileReader { paths, waker, slots: Vec::new(), turn: VecDeque::new() }
    }

    fn path(&self, assignment: &Assignment) -> anyhow::Result<&Path> {
        let index = usize::try_from(assignment.source.partition).ok();
        let path = index.and_then(|index| self.paths.get(index));
        path.map(PathBuf::as_path).with_context(|| format!("no file is partition {}", assignment.source))
    }
}

impl Reader for FileReader {
    fn assign(&mut self, assignments: &[Assignment]) -> anyhow::Result<()> {
        for assignment in assignments {
            let path = self.path(assignment)?.to_owned();
            let slot = self.slots.len() as u32;
            let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
            let waker = Waker::clone(&self.waker);
            std::thread::Builder::new().name(format!("read-{slot}")).spawn(move || {
                if let Err(error) = read(&path, slot, &sender, &waker) {
                    let _ = sender.send(Err(error.context(format!("reading {}", path.display()))));
                }
                waker();
            })?;
            self.slots.push(Slot {
                assignment: assignment.clone(),
                chunks,
                next_line: 0,
                ended: false,
                paused: false,
            });
            self.turn.push_back(slot);
        }
        Ok(())
    }

    fn poll(&mut self, _most: usize) -> anyhow::Result<Option<Rc<dyn Records>>> {
        for _ in 0..self.turn.len() {
            self.turn.rotate_left(1);
            let slot = &mut self.slots[self.turn[0] as usize];
            if slot.paused || slot.ended {
                continue;
            }
            match slot.chunks.try_recv() {
                Ok(chunk) => {
                    let chunk = chunk?;
                    slot.next_line = chunk.first_line + chunk.lines.len() as i64;
                    return Ok(Some(Rc::new(chunk)));
                }
                Err(TryRecvError::Disconnected) => slot.ended = true,
                Err(TryRecvError::Empty) => {}
            }
        }
        Ok(None)
    }

    fn partitions(&mut self) -> Vec<Partition> {
        let state = |slot: &Slot| Partition {
            source: slot.assignment.source.clone(),
            next_offset: slot.next_line,
            at_end: false,
            ended: slot.ended,
            attached: slot.assignment.attached,
            time_us: slot.assignment.time_us,
        };
        self.slots.iter().map(state).collect()
    }

    fn pause(&mut self, slots: &[u32]) -> anyhow::Result<()> {
        slots.iter().for_each(|slot| self.slots[*slot as usize].paused = true);
        Ok(())
    }

    fn resume(&mut self, slots: &[u32]) -> anyhow::Result<()> {
        slots.iter().for_each(|slot| self.slots[*slot as usize].paused = false);
        Ok(())
    }
}

/// The bytes of a file, decompressed where its first bytes say so; `-` is the standard input.
pub fn open(path: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    let raw: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("opening {}", path.display()))?)
    };
    let mut raw = BufReader::with_capacity(CHUNK_BYTES, raw);
    let magic = raw.fill_buf()?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(raw)))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(raw)?))
    } else {
        Ok(Box::new(raw))
    }
}

/// Gives every line of a file to `each`. A thread reads ahead.
///
/// # Errors
/// When the file cannot be read, and those of `each`.
pub fn for_each_line(path: &Path, mut each: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
    let name = path.to_owned();
    let waker: Waker = Arc::new(|| {});
    std::thread::Builder::new().name("read-lines".into()).spawn(move || {
        if let Err(error) = read(&name, 0, &sender, &waker) {
            let _ = sender.send(Err(error.context(format!("reading {}", name.display()))));
        }
    })?;
    for chunk in chunks {
        let chunk = chunk?;
        for index in 0..chunk.len() {
            each(chunk.get(index).payload.unwrap_or_default())?;
        }
    }
    Ok(())
}

fn read(
    path: &Path,
    slot: u32,
    chunks: &SyncSender<anyhow::Result<Chunk>>,
    waker: &Waker,
) -> anyhow::Result<()> {
    let mut input = open(path)?;
    let mut rest = Vec::new();
    let mut first_line = 0;
    loop {
        let mut bytes = std::mem::take(&mut rest);
        let held = bytes.len();
        bytes.resize(held + CHUNK_BYTES, 0);
        let got = fill(&mut *input, &mut bytes[held..])?;
        bytes.truncate(held + got);
        let over = got == 0;
        let mut lines = split(&bytes);
        let end = lines.last().map_or(0, |(_, end)| *end as usize + 1);
        if over && end < bytes.len() {
            lines.push((end as u32, bytes.len() as u32));
        } else if !over {
            rest = bytes[end.min(bytes.len())..].to_vec();
            if rest.len() > MAX_LINE_BYTES {
                lines.push((end as u32, (end + MAX_LINE_BYTES) as u32));
                skip_line(&mut *input, &mut rest)?;
            }
        }
        if !lines.is_empty() {
            let chunk = Chunk { first_line, slot, bytes, lines };
            first_line += chunk.lines.len() as i64;
            if chunks.send(Ok(chunk)).is_err() {
                return Ok(());
            }
            waker();
        }
        if over {
            return Ok(());
        }
    }
}

/// Reads until `buffer` is full, the input pauses (a pipe), or it ends (0).
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Start and end of every complete line.
fn split(bytes: &[u8]) -> Vec<(u32, u32)> {
    let mut start = 0;
    let line = |end: usize| (std::mem::replace(&mut start, end as u32 + 1), end as u32);
    memchr_iter(b'\n', bytes).map(line).collect()
}

/// Throws away the rest of a line that is too long, and keeps what follows it.
fn skip_line(input: &mut dyn Read, rest: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let got = fill(input, &mut buffer)?;
        match memchr::memchr(b'\n', &buffer[..got]) {
            Some(at) => {
                *rest = buffer[at + 1..got].to_vec();
                return Ok(());
            }
            None if got == 0 => {
                rest.clear();
                return Ok(());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines_of(bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("writing");
        let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
        let path = file.path().to_owned();
        let waker: Waker = Arc::new(|| {});
        std::thread::spawn(move || read(&path, 0, &sender, &waker));
        let mut lines = Vec::new();
        for chunk in receiver {
            let chunk = chunk.expect("readable");
            for index in 0..chunk.len() {
                let record = chunk.get(index);
                lines.push((record.offset, record.payload.unwrap_or_default().to_vec()));
            }
        }
        lines
    }

    #[test]
    fn lines_keep_their_number_across_chunks_and_the_last_needs_no_break() {
        let text: Vec<String> = (0..50_000).map(|n| format!("line {n}{}", "x".repeat(n % 40))).collect();
        let lines = lines_of(text.join("\r\n").as_bytes());
        assert_eq!(lines.len(), text.len());
        for ((offset, line), expected) in lines.iter().zip(&text) {
            assert_eq!(String::from_utf8_lossy(line), *expected, "line {offset}");
        }
        assert!(lines.iter().enumerate().all(|(n, (offset, _))| *offset == n as i64));
    }

    #[test]
    fn compressed_files_are_told_by_their_first_bytes() {
        let text = b"one\ntwo\n";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).expect("compressing");
        let expected = [(0, b"one".to_vec()), (1, b"two".to_vec())];
        assert_eq!(lines_of(&gz.finish().expect("compressing")), expected);
        assert_eq!(lines_of(&zstd::encode_all(&text[..], 1).expect("compressing")), expected);
        assert_eq!(lines_of(text), expected);
    }

    #[test]
    fn a_line_beyond_all_measure_is_cut_and_the_next_is_whole() {
        let mut text = vec![b'a'; MAX_LINE_BYTES + 3 * CHUNK_BYTES];
        text.extend(b"\nnext\n");
        let lines = lines_of(&text);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].1.len(), MAX_LINE_BYTES);
        assert_eq!(lines[1], (1, b"next".to_vec()));
    }
}
