//! A folder of this host.
//!
//! ```text
//!   spool file ── fsync ─▶ hard link under its name (fails when taken: atomic) ─▶ fsync of the folder
//! ```

use super::{Body, Head, Measured, Put, Target, Usage};
use crate::error::{Fault, SinkError};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// How names of files under way begin.
const HIDDEN: &str = "_part-";

/// [`Target`] in a folder. Small enough work that it is done where it is asked for.
pub(super) struct Folder {
    root: PathBuf,
    url: String,
    usage: Usage,
}

impl Folder {
    /// Makes the folder.
    pub fn new(root: &Path) -> Result<Self, SinkError> {
        let made = fs::create_dir_all(root).and_then(|()| root.canonicalize());
        let root = made.map_err(|error| fault(&root.display().to_string(), "make the folder", &error))?;
        Ok(Folder { url: format!("file://{}", root.display()), root, usage: Usage::default() })
    }

    fn failed<'a>(&'a self, doing: &'a str) -> impl Fn(std::io::Error) -> SinkError + use<'a> {
        move |error| fault(&self.url, doing, &error)
    }

    /// The path on disk, its folder made.
    fn place(&self, path: &str) -> std::io::Result<(PathBuf, PathBuf)> {
        let file = self.root.join(path);
        let folder = file.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&folder)?;
        Ok((file, folder))
    }

    fn link(&self, path: &str, source: &Path) -> std::io::Result<Put> {
        let (file, folder) = self.place(path)?;
        File::open(source)?.sync_all()?;
        let linked = match fs::hard_link(source, &file) {
            // The spool is on another file system: a copy beside the file, then as before.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                let mut copy = hidden(&folder)?;
                std::io::copy(&mut File::open(source)?, copy.as_file_mut())?;
                copy.as_file().sync_all()?;
                fs::hard_link(copy.path(), &file)
            }
            result => result,
        };
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Put::Taken),
            result => result?,
        }
        sync(&folder)?;
        Ok(Put::Written)
    }

    fn read_head(&self, path: &str) -> std::io::Result<Option<Head>> {
        let file = match File::open(self.root.join(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let about = file.metadata()?;
        let mut head = Head { bytes: about.len() as i64, ..Head::default() };
        if path.ends_with(".parquet") {
            // What is no Parquet file has no tags: it is not ours, and is found to differ.
            let footer = ParquetMetaDataReader::new().parse_and_finish(&file).ok();
            let tags = footer.as_ref().and_then(|footer| footer.file_metadata().key_value_metadata());
            for tag in tags.into_iter().flatten() {
                head.tags.insert(tag.key.clone(), tag.value.clone().unwrap_or_default());
            }
        }
        Ok(Some(head))
    }
}

#[async_trait]
impl Target for Folder {
    fn url(&self) -> &str {
        &self.url
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    async fn put_new(&self, path: &str, body: Body, _: &[(String, String)]) -> Result<Put, SinkError> {
        let put = || match &body {
            Body::File(source) => self.link(path, source),
            Body::Bytes(bytes) => {
                let mut file = hidden(&self.place(path)?.1)?;
                file.write_all(bytes)?;
                self.link(path, file.path())
            }
        };
        let put = put().map_err(self.failed(&format!("write {path}")))?;
        let written = match (put, &body) {
            (Put::Taken, _) => 0,
            (Put::Written, Body::Bytes(bytes)) => bytes.len() as i64,
            (Put::Written, Body::File(source)) => fs::metadata(source).map_or(0, |about| about.len() as i64),
        };
        self.usage.put(written);
        Ok(put)
    }

    async fn replace(
        &self,
        path: &str,
        body: Bytes,
        _: &[(String, String)],
        _: Option<&Head>,
    ) -> Result<bool, SinkError> {
        let replace = || {
            let (file, folder) = self.place(path)?;
            let mut new = hidden(&folder)?;
            new.write_all(&body)?;
            new.as_file().sync_all()?;
            new.persist(&file).map_err(|error| error.error)?;
            sync(&folder)
        };
        replace().map_err(self.failed(&format!("write {path}")))?;
        self.usage.put(body.len() as i64);
        Ok(true)
    }

    async fn head(&self, path: &str) -> Result<Option<Head>, SinkError> {
        self.usage.get();
        self.read_head(path).map_err(self.failed(&format!("look at {path}")))
    }

    async fn fetch(&self, path: &str, into: &Path) -> Result<(), SinkError> {
        self.usage.get();
        fs::copy(self.root.join(path), into).map(drop).map_err(self.failed(&format!("read {path}")))
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, SinkError> {
        self.usage.get();
        let list = || {
            let entries = match fs::read_dir(self.root.join(folder)) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                result => result?,
            };
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<Vec<String>>>()
        };
        list().map_err(self.failed(&format!("list {folder}")))
    }

    async fn measure(&self, folder: &str, at_most: i64) -> Result<Measured, SinkError> {
        self.usage.get();
        let (mut measured, mut folders) = (Measured::default(), vec![self.root.join(folder)]);
        while let Some(next) = folders.pop().filter(|_| measured.objects < at_most) {
            add_up(&next, &mut measured, &mut folders).map_err(self.failed(&format!("list {folder}")))?;
        }
        Ok(measured)
    }

    async fn delete(&self, path: &str) -> Result<(), SinkError> {
        self.usage.delete();
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(fault(&self.url, &format!("delete {path}"), &error))
            }
            _ => Ok(()),
        }
    }

    async fn abort_uploads(&self, _: &str) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Adds the files of a folder to `measured`, and its folders to `folders`. What is gone, or was put aside by a write under
/// way, does not count.
fn add_up(folder: &Path, measured: &mut Measured, folders: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(about) if about.is_dir() => folders.push(entry.path()),
            Ok(_) if entry.file_name().to_string_lossy().starts_with(HIDDEN) => {}
            Ok(about) => {
                measured.objects += 1;
                measured.bytes += about.len() as i64;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file that readers pass over, deleted unless it is given a name.
fn hidden(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let permissions = fs::Permissions::from_mode(super::MODE);
    tempfile::Builder::new().prefix(HIDDEN).permissions(permissions).tempfile_in(folder)
}

/// Names in a folder survive a power failure once the folder itself was written.
fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Sorts an error of the file system by who must act.
pub(in crate::parquet) fn fault(store: &str, doing: &str, error: &std::io::Error) -> SinkError {
    let fault = |advice: &str| Fault {
        store: store.to_owned(),
        doing: doing.to_owned(),
        found: error.to_string(),
        advice: advice.to_owned(),
    };
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            SinkError::Fatal(fault("give this user the right to write there"))
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidInput => {
            SinkError::Fatal(fault("name a folder"))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            SinkError::Transient(fault("the disk is full: make room, writing goes on by itself"))
        }
        _ => SinkError::Transient(fault("look at the disk; trying again")),
    }
}
