//! One request with a body, and a response that comes line by line for as long as the server has something to do.
//!
//! It is spoken as HTTP/1.0, so that the response has no framing of its own and ends with the connection; that nothing
//! is missing shows in its last line.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::cli::plain_http::PlainUrl;

/// How long the server may be silent: the longest time that one file may take, and a little more.
const SILENCE: Duration = Duration::from_mins(35);
/// How long anything before the response may take.
const SETUP_LIMIT: Duration = Duration::from_secs(30);
/// The longest line and the longest refusal that are read, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// Lines of a head at most.
const MAX_HEAD: usize = 100;

pub(super) struct Conversation {
    pub(super) status: u16,
    reader: BufReader<TcpStream>,
}

impl Conversation {
    /// Sends the request, and reads the head of the response.
    pub(super) async fn begin(target: &PlainUrl<'_>, body: &str, secret: Option<&str>) -> io::Result<Self> {
        let beginning = async {
            let mut stream = target.connect().await?;
            let head = target.head("POST", "1.0", "wheelport-cache-warm", secret, Some(body.len()));
            stream.write_all(head.as_bytes()).await?;
            // A server that refuses early may close its side meanwhile; the response says why.
            let _ = stream.write_all(body.as_bytes()).await;
            let mut conversation = Self { status: 0, reader: BufReader::new(stream) };
            let first = conversation.read_line().await?.unwrap_or_default();
            let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
            conversation.status = status.ok_or_else(|| io::Error::other("it does not speak HTTP"))?;
            for _ in 0..MAX_HEAD {
                if conversation.read_line().await?.is_none_or(|line| line.is_empty()) {
                    return Ok(conversation);
                }
            }
            Err(io::Error::other("its response has no end of headers"))
        };
        tokio::time::timeout(SETUP_LIMIT, beginning).await?
    }

    /// The next line; `None` at the end.
    pub(super) async fn line(&mut self) -> io::Result<Option<String>> {
        tokio::time::timeout(SILENCE, self.read_line()).await?
    }

    /// All that comes, of a refusal.
    pub(super) async fn rest(mut self) -> io::Result<String> {
        let mut text = Vec::new();
        let mut bounded = (&mut self.reader).take(MAX_LINE);
        tokio::time::timeout(SETUP_LIMIT, bounded.read_to_end(&mut text)).await??;
        Ok(format!("{} ({})", String::from_utf8_lossy(&text).trim(), self.status))
    }

    async fn read_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if read > 0 && line.last() != Some(&b'\n') {
            return Err(io::Error::other("a line of its response has no end"));
        }
        Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
    }
}
