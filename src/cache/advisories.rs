//! The copy of advisories: a record like others, too large to be held in memory, so it is written and checked in
//! passing. What is in it, others know.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256 as Sha256Hasher};
use tempfile::NamedTempFile;

use super::disk::Disk;
use super::envelope;
use wheelport_index::Sha256;

/// Where it is kept. Never evicted, and cleared with nothing else.
const PATH: &str = "advisories/osv";

/// The place of the copy in a cache directory. Cheap to clone.
#[derive(Clone)]
pub struct AdvisoryRecord {
    disk: Arc<Disk>,
}

/// A copy that can be read, and where it begins in its file.
pub struct StoredAdvisories {
    pub file: File,
    pub begins: u64,
    pub length: u64,
    pub sha256: Sha256,
}

/// A copy that is being written. It is nothing until it is committed.
pub struct NewAdvisories {
    disk: Arc<Disk>,
    file: BufWriter<NamedTempFile>,
    hasher: Sha256Hasher,
    begins: u64,
    length: u64,
}

impl AdvisoryRecord {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// What was committed last, if anything was; all of it is compared with its digest. Blocking. A damaged copy is
    /// removed, and is an error.
    pub fn open(&self) -> io::Result<Option<StoredAdvisories>> {
        let path = Path::new(PATH);
        let file = match self.disk.open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let (sha256, length) = self.disk.check_record(path, &file)?;
        Ok(Some(StoredAdvisories { begins: envelope::line_of(path, sha256).len() as u64, file, length, sha256 }))
    }

    /// Begins a new copy. Blocking.
    pub fn begin(&self) -> io::Result<NewAdvisories> {
        let mut file = BufWriter::new(self.disk.temporary()?);
        // The line that comes in its place has the same length.
        let line = envelope::line_of(Path::new(PATH), Sha256([0; 32]));
        file.write_all(line.as_bytes())?;
        let (disk, hasher) = (Arc::clone(&self.disk), Sha256Hasher::new());
        Ok(NewAdvisories { disk, file, hasher, begins: line.len() as u64, length: 0 })
    }

    /// A temporary file, for an export as it is fetched. Blocking.
    pub fn scratch(&self) -> io::Result<NamedTempFile> {
        self.disk.temporary()
    }
}

impl Write for NewAdvisories {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StoredAdvisories {
    /// From the beginning of the copy on. Blocking.
    pub fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(self.begins))?;
        Ok(file)
    }
}

impl NewAdvisories {
    /// The digest of what was written so far.
    pub fn sha256(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }

    /// What was written so far. Blocking.
    pub fn reader(&mut self) -> io::Result<File> {
        self.file.flush()?;
        let mut file = self.file.get_ref().reopen()?;
        file.seek(SeekFrom::Start(self.begins))?;
        Ok(file)
    }

    /// Puts it into the place of the one before; it outlives a crash when this returns. Blocking.
    pub fn commit(self) -> io::Result<StoredAdvisories> {
        let Self { disk, file, hasher, begins, length } = self;
        let sha256 = Sha256(hasher.finalize().into());
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(envelope::line_of(Path::new(PATH), sha256).as_bytes())?;
        file.as_file().sync_data()?;
        let opened = file.reopen()?;
        disk.commit(file, Path::new(PATH))?;
        Ok(StoredAdvisories { file: opened, begins, length, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use wheelport_runtime::Clock;

    fn text(mut stored: StoredAdvisories) -> io::Result<String> {
        stored.file.seek(SeekFrom::Start(stored.begins))?;
        let mut text = String::new();
        stored.file.read_to_string(&mut text)?;
        assert_eq!((text.len() as u64, Sha256::of(text.as_bytes())), (stored.length, stored.sha256));
        Ok(text)
    }

    #[test]
    fn the_last_copy_that_was_committed_is_read_and_a_damaged_one_is_removed() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let record = AdvisoryRecord::new(Disk::open(root.path(), 1 << 20, Clock::system())?);
        assert!(record.open()?.is_none());
        for copy in ["the first", "another one"] {
            let mut new = record.begin()?;
            new.write_all(copy.as_bytes())?;
            assert_eq!(text(new.commit()?)?, copy);
            let mut unfinished = record.begin()?;
            unfinished.write_all(b"half of")?;
            drop(unfinished);
            let stored = record.open()?.ok_or(io::ErrorKind::NotFound)?;
            assert_eq!(text(stored)?, copy);
        }
        let before = record.open()?.ok_or(io::ErrorKind::NotFound)?;
        let path = root.path().join(PATH);
        let mut bytes = std::fs::read(&path)?;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::remove_file(&path)?;
        std::fs::write(&path, bytes)?;
        assert!(record.open().is_err() && record.open()?.is_none());
        assert_eq!(text(before)?, "another one", "what is open stays readable");
        Ok(())
    }
}
