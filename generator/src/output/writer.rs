//! Lines into a file or any stream, one a line (NDJSON), compressed by the file's extension.

use super::{Pace, Pacer, Progress, worth_telling};
use crate::error::GeneratorError;
use crate::stream::Generator;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Lines are handed on once so many bytes are together.
const BLOCK_BYTES: usize = 256 * 1024;

/// Writes the traffic to `path`: gzip when it ends in `.gz`, zstd when it ends in `.zst`, else as it is.
///
/// # Errors
/// When the file cannot be made or written, or the pace makes no sense.
pub fn to_file(
    generator: &mut Generator,
    path: &Path,
    pace: &Pace,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Progress, GeneratorError> {
    let failed = |source| GeneratorError::File { path: path.to_owned(), source };
    let mut file = CompressedFile::create(path).map_err(failed)?;
    let written = to_writer(generator, &mut file, pace, progress).map_err(|error| match error {
        GeneratorError::Write(source) => failed(source),
        other => other,
    })?;
    file.finish().map_err(failed)?;
    Ok(written)
}

/// Writes the traffic to `writer`, which is flushed whenever the output waits and at the end.
///
/// # Errors
/// When `writer` fails, or the pace makes no sense.
pub fn to_writer(
    generator: &mut Generator,
    writer: &mut dyn Write,
    pace: &Pace,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Progress, GeneratorError> {
    let mut pacer = Pacer::new(pace)?;
    let mut done = Progress::default();
    let mut block = Vec::with_capacity(BLOCK_BYTES + 4096);
    loop {
        let before = block.len();
        let Some(head) = generator.next_into(&mut block) else { break };
        let waits = pacer.wait(head.arrival_us).is_some();
        if waits {
            writer.write_all(&block[..before])?;
            writer.flush()?;
            block.drain(..before);
        }
        if !pacer.hold(head.arrival_us) {
            block.truncate(if waits { 0 } else { before });
            break;
        }
        done.lines += 1;
        done.bytes += (block.len() - if waits { 0 } else { before }) as u64;
        done.arrival_us = head.arrival_us;
        block.push(b'\n');
        if block.len() >= BLOCK_BYTES {
            writer.write_all(&block)?;
            block.clear();
        }
        if worth_telling(&done, waits) {
            progress(&done);
        }
    }
    writer.write_all(&block)?;
    writer.flush()?;
    progress(&done);
    Ok(done)
}

enum CompressedFile {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<File>),
    Zstd(zstd::Encoder<'static, File>),
}

impl CompressedFile {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => CompressedFile::Gzip(GzEncoder::new(file, Compression::fast())),
            Some("zst") => CompressedFile::Zstd(zstd::Encoder::new(file, 3)?),
            _ => CompressedFile::Plain(BufWriter::new(file)),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            CompressedFile::Plain(mut file) => file.flush(),
            CompressedFile::Gzip(encoder) => encoder.finish().map(drop),
            CompressedFile::Zstd(encoder) => encoder.finish().map(drop),
        }
    }
}

impl Write for CompressedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            CompressedFile::Plain(file) => file.write(bytes),
            CompressedFile::Gzip(encoder) => encoder.write(bytes),
            CompressedFile::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            CompressedFile::Plain(file) => file.flush(),
            CompressedFile::Gzip(encoder) => encoder.flush(),
            CompressedFile::Zstd(encoder) => encoder.flush(),
        }
    }
}
