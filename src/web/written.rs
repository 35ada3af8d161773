//! The bytes of a document, written piece by piece.
//!
//! A small document is held as it is sent. A large one that is sent without a coding is held compressed and expanded as
//! its client takes it, so that neither making it nor a slow client takes the memory of its whole length.

use std::io::{self, Cursor, Read as _, Write};

use axum::body::Body;
use bytes::Bytes;
use flate2::write::GzEncoder;

use super::body::ResponseBody;
use super::conditional::Selection;
use super::negotiate::ContentCoding;
use wheelport_index::{Hasher, Sha256};

/// A longer document is compressed as it is written, in bytes.
const LARGE: usize = 2 << 20;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 9;
/// For what is compressed for the sake of memory alone.
const PACKED_LEVEL: i32 = 1;
/// How far back that looks, as a power of two: every client that takes such a document holds as much.
const PACKED_WINDOW: u32 = 17;
/// How much of it is expanded at once, in bytes.
const CHUNK: usize = 64 << 10;
/// Small writes are gathered up to this length, in bytes.
const GATHERED: usize = 16 << 10;

/// The bytes of a document, as they are held.
#[derive(Debug, Clone)]
pub(super) struct Written {
    held: WrittenBytes,
    /// The length in bytes, as it is sent.
    pub length: u64,
    /// Of the bytes as they are sent.
    pub sha256: Sha256,
}

#[derive(Debug, Clone)]
enum WrittenBytes {
    Plain(Bytes),
    /// Compressed for the sake of memory.
    Packed(Bytes),
}

impl Written {
    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { length: bytes.len() as u64, sha256: Sha256::of(&bytes), held: WrittenBytes::Plain(bytes) }
    }

    /// What `write` writes, in a content coding.
    pub(super) fn gather<T>(
        coding: ContentCoding,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> io::Result<(Self, T)> {
        let mut writer =
            io::BufWriter::with_capacity(GATHERED, DocumentWriter { coding, small: Vec::new(), large: None });
        let outcome = write(&mut writer)?;
        let writer = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((writer.finish()?, outcome))
    }

    /// The memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        match &self.held {
            WrittenBytes::Plain(bytes) | WrittenBytes::Packed(bytes) => bytes.len(),
        }
    }

    pub(super) fn body(&self, selection: Selection) -> io::Result<ResponseBody> {
        match &self.held {
            WrittenBytes::Plain(bytes) => Ok(selection.of(bytes).into()),
            WrittenBytes::Packed(packed) => expanded(packed.clone()),
        }
    }
}

/// A body that is expanded chunk by chunk.
fn expanded(packed: Bytes) -> io::Result<ResponseBody> {
    let decoder = zstd::stream::read::Decoder::with_buffer(Cursor::new(packed))?;
    let chunks = futures_util::stream::try_unfold(decoder, |mut decoder| async move {
        let mut chunk = Vec::with_capacity(CHUNK);
        decoder.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        Ok::<_, io::Error>((!chunk.is_empty()).then(|| (Bytes::from(chunk), decoder)))
    });
    Ok(Body::from_stream(chunks).into())
}

type ZstdEncoder<W> = zstd::stream::write::Encoder<'static, W>;

/// Where a document is written to.
struct DocumentWriter {
    coding: ContentCoding,
    /// The document, as long as it is small.
    small: Vec<u8>,
    large: Option<Large>,
}

/// A large document, compressed as it is written.
enum Large {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<Vec<u8>>),
    Packed { encoder: ZstdEncoder<Vec<u8>>, hasher: Box<Hasher>, length: u64 },
}

impl DocumentWriter {
    fn finish(self) -> io::Result<Written> {
        match self.large {
            None => compress(self.small, self.coding).map(Written::of),
            Some(large) => large.finish(),
        }
    }
}

impl Write for DocumentWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.large.is_none() {
            if self.small.len() + bytes.len() <= LARGE {
                self.small.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            let mut large = Large::new(self.coding)?;
            large.add(&std::mem::take(&mut self.small))?;
            self.large = Some(large);
        }
        self.large.as_mut().map_or(Ok(()), |large| large.add(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Large {
    fn new(coding: ContentCoding) -> io::Result<Self> {
        let encoder = |level| ZstdEncoder::new(Vec::new(), level);
        Ok(match coding {
            ContentCoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
            ContentCoding::Zstd => Self::Zstd(encoder(ZSTD_LEVEL)?),
            ContentCoding::Identity => {
                let mut encoder = encoder(PACKED_LEVEL)?;
                encoder.window_log(PACKED_WINDOW)?;
                Self::Packed { encoder, hasher: Box::new(Hasher::new(None)), length: 0 }
            }
        })
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Packed { encoder, hasher, length } => {
                hasher.update(bytes);
                *length += bytes.len() as u64;
                encoder.write_all(bytes)
            }
        }
    }

    fn finish(self) -> io::Result<Written> {
        match self {
            Self::Gzip(encoder) => encoder.finish().map(Written::of),
            Self::Zstd(encoder) => encoder.finish().map(Written::of),
            Self::Packed { encoder, hasher, length } => {
                let held = WrittenBytes::Packed(encoder.finish()?.into());
                Ok(Written { held, length, sha256: hasher.finish().sha256 })
            }
        }
    }
}

fn compress(bytes: Vec<u8>, coding: ContentCoding) -> io::Result<Vec<u8>> {
    match coding {
        ContentCoding::Identity => Ok(bytes),
        ContentCoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        ContentCoding::Zstd => zstd::bulk::compress(&bytes, ZSTD_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    /// Text of this length that compresses as a page does.
    fn text(length: usize) -> Vec<u8> {
        let mut text: Vec<u8> =
            (0..length / 64).flat_map(|n| Sha256::of(&n.to_le_bytes()).to_string().into_bytes()).collect();
        text.resize(length, b'x');
        text
    }

    async fn sent(written: &Written) -> Vec<u8> {
        let body = written.body(Selection::Whole).expect("a body");
        body.collect().await.expect("it is complete").to_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_document_of_any_length_is_sent_as_it_was_written() {
        for length in [0, 1, LARGE - 1, LARGE, LARGE + 1, LARGE * 3 + 17] {
            let text = text(length);
            for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd] {
                let (written, ()) =
                    Written::gather(coding, |out| text.chunks(1000).try_for_each(|chunk| out.write_all(chunk)))
                        .expect("memory");
                let sent = sent(&written).await;
                assert_eq!((written.length, written.sha256), (sent.len() as u64, Sha256::of(&sent)), "{length}");
                let mut plain = Vec::new();
                match coding {
                    ContentCoding::Identity => plain.clone_from(&sent),
                    ContentCoding::Gzip => {
                        flate2::read::GzDecoder::new(sent.as_slice()).read_to_end(&mut plain).expect("gzip");
                    }
                    ContentCoding::Zstd => plain = zstd::stream::decode_all(sent.as_slice()).expect("zstd"),
                }
                assert!(plain == text, "{length} {coding:?}");
                if length > LARGE {
                    assert!(written.weight() < length * 3 / 4, "{length} {coding:?}: {}", written.weight());
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let failing = Written::gather(ContentCoding::Gzip, |_| Err::<(), _>(io::Error::other("no")));
        assert_eq!(failing.map(|_| ()).map_err(|error| error.to_string()), Err("no".to_owned()));
    }
}
