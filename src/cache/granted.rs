//! The record of exceptions that operators granted in the running process. What is in it, others know.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;

/// Where it is kept. Never evicted, and cleared with nothing else.
const PATH: &str = "granted/exceptions";

/// The record of a cache directory.
pub struct GrantRecord {
    disk: Arc<Disk>,
}

impl GrantRecord {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// What was written last. Blocking. A damaged record is an error.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self.disk.read_record(Path::new(PATH)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Blocking. It outlives a crash when this returns.
    pub fn write(&self, payload: &[u8]) -> io::Result<()> {
        self.disk.write_lasting(Path::new(PATH), payload)
    }
}
