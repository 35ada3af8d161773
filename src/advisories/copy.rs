//! The copy of an export: all its documents in one file, each compressed by itself, so that one is read without the
//! others.
//!
//! ```text
//! wheelport advisories 1\n
//! {"source": …, "tag": …, "made": …}\n
//! LENGTH (4 bytes, little endian)  document, compressed
//! …
//! ```

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use super::document::OsvDocument;
use super::table::{AdvisoryTable, TableBuilder};
use super::{LARGEST_DOCUMENT, LARGEST_UNPACKED, MOST_DOCUMENTS};
use wheelport_index::Sha256;

const FIRST_LINE: &str = "wheelport advisories 1\n";
/// The longest line of the header, in bytes.
const LONGEST_HEADER: u64 = 16 << 10;
/// Compressed once and read rarely; more effort gains little.
const LEVEL: i32 = 6;

/// What is known of an export besides its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyHeader {
    /// What tells sources apart; it is not the address itself, which may hold a secret.
    pub source: String,
    /// What the source calls this version: an entity tag, or a time of modification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// When the export was made, or was read where that is not known, in seconds since the epoch.
    pub made: u64,
}

/// Writes a copy as documents come.
pub struct CopyWriter<W> {
    target: W,
    position: u32,
    builder: TableBuilder,
}

impl<W: Write> CopyWriter<W> {
    pub fn new(mut target: W, header: &CopyHeader) -> io::Result<Self> {
        let header = format!("{FIRST_LINE}{}\n", serde_json::to_string(header).map_err(io::Error::other)?);
        target.write_all(header.as_bytes())?;
        Ok(Self { target, position: length_of(header.len())?, builder: TableBuilder::default() })
    }

    /// Adds a document, and what it says.
    pub(super) fn add(&mut self, document: OsvDocument, bytes: &[u8]) -> io::Result<()> {
        let packed = zstd::bulk::compress(bytes, LEVEL)?;
        let length = length_of(packed.len())?;
        self.target.write_all(&length.to_le_bytes())?;
        self.target.write_all(&packed)?;
        self.builder.add(document, (self.position + 4, length), Sha256::of(bytes));
        self.position = self.position.checked_add(4 + length).ok_or_else(|| invalid("it is too large"))?;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.builder.len()
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// What was written to, and what is in it.
    pub fn finish(mut self) -> io::Result<(W, AdvisoryTable)> {
        self.target.flush()?;
        Ok((self.target, self.builder.build()))
    }
}

/// Reads a copy from its beginning. Documents that this version cannot read are an error: it wrote them.
pub fn load(mut source: impl BufRead) -> io::Result<(CopyHeader, AdvisoryTable)> {
    let header = |source: &mut dyn BufRead| {
        let mut line = String::new();
        source.take(LONGEST_HEADER).read_line(&mut line).map(|_| line)
    };
    if header(&mut source)? != FIRST_LINE {
        return Err(invalid("it is no copy of advisories that this version knows"));
    }
    let line = header(&mut source)?;
    let mut position = length_of(FIRST_LINE.len() + line.len())?;
    let header: CopyHeader = serde_json::from_str(&line).map_err(|error| invalid(&error.to_string()))?;
    let (mut builder, mut unpacked) = (TableBuilder::default(), 0);
    while let Some(length) = next_length(&mut source)? {
        let mut packed = Vec::new();
        (&mut source).take(u64::from(length)).read_to_end(&mut packed)?;
        if packed.len() != length as usize || builder.len() >= MOST_DOCUMENTS {
            return Err(invalid("it ends early, or has too many documents"));
        }
        let document = unpack(&packed)?;
        unpacked += document.len() as u64;
        if unpacked > LARGEST_UNPACKED {
            return Err(invalid("its documents are too large together"));
        }
        let parsed = OsvDocument::parse(&document).map_err(|error| invalid(&error.to_string()))?;
        builder.add(parsed, (position + 4, length), Sha256::of(&document));
        position = position.checked_add(4 + length).ok_or_else(|| invalid("it is too large"))?;
    }
    Ok((header, builder.build()))
}

fn length_of(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

fn next_length(source: &mut impl BufRead) -> io::Result<Option<u32>> {
    if source.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut length = [0; 4];
    source.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if u64::from(length) > LARGEST_DOCUMENT * 2 {
        return Err(invalid("a document is too large"));
    }
    Ok(Some(length))
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    zstd::stream::read::Decoder::new(packed)?.take(LARGEST_DOCUMENT + 1).read_to_end(&mut document)?;
    if document.len() as u64 > LARGEST_DOCUMENT { Err(invalid("a document is too large")) } else { Ok(document) }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// The documents of a copy. They can be read for as long as this is held, whatever becomes of the name of the file.
#[derive(Debug)]
pub struct Documents {
    file: File,
    /// Where the copy begins in the file.
    begins: u64,
}

impl Documents {
    pub const fn new(file: File, begins: u64) -> Self {
        Self { file, begins }
    }

    /// Bytes of the copy itself. Blocking.
    pub fn bytes(&self, position: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.begins + position)?;
        Ok(bytes)
    }

    /// The document of an advisory. Blocking.
    pub fn read(&self, table: &AdvisoryTable, id: &str) -> io::Result<Option<Vec<u8>>> {
        let Some((position, length)) = table.place(id) else { return Ok(None) };
        let mut packed = vec![0; length as usize];
        self.file.read_exact_at(&mut packed, self.begins + u64::from(position))?;
        unpack(&packed).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(documents: &[&str]) -> (Vec<u8>, AdvisoryTable) {
        let header = CopyHeader { source: "s".to_owned(), tag: Some("\"t\"".to_owned()), made: 17 };
        let mut writer = CopyWriter::new(Vec::new(), &header).expect("a copy");
        for document in documents {
            let parsed = OsvDocument::parse(document.as_bytes()).expect("a document");
            writer.add(parsed, document.as_bytes()).expect("a document");
        }
        writer.finish().expect("a copy")
    }

    #[test]
    fn documents_come_back_as_they_were() {
        let documents = [r#"{"id": "A-1",  "x": 1}"#, r#"{"id":"B-2","details":"ä"}"#];
        let (bytes, table) = copy(&documents);
        let (header, again) = load(bytes.as_slice()).expect("a copy");
        assert_eq!((header.source.as_str(), header.made), ("s", 17));
        assert_eq!((again.digest(), again.len()), (table.digest(), 2));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"before").and_then(|()| file.write_all(&bytes)).expect("written");
        let stored = Documents::new(file, 6);
        for (id, document) in [("A-1", documents[0]), ("B-2", documents[1])] {
            assert_eq!(stored.read(&again, id).expect("read").as_deref(), Some(document.as_bytes()));
            assert_eq!(stored.read(&table, id).expect("read").as_deref(), Some(document.as_bytes()));
        }
        assert!(stored.read(&table, "C-3").expect("read").is_none());
    }

    #[test]
    fn a_copy_that_ends_early_is_none() {
        let (bytes, _) = copy(&[r#"{"id": "A-1"}"#]);
        for length in 0..bytes.len() {
            let complete = load(&bytes[..length]).is_ok_and(|(_, table)| table.len() == 1);
            assert!(!complete, "{length} bytes");
        }
        assert!(load(&b"PK\x03\x04"[..]).is_err());
    }
}
