//! Upload forms as publishing tools write them, and something that hangs up in the middle of an upload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wheelport_index::{FileKind, FileName, FormEvent, FormFault, FormParser, FormPart};
use wheelport_runtime::Tasks;

use super::scripted::Seen;
use super::wheels::Sample;

/// The boundary of every form made here.
pub(crate) const BOUNDARY: &str = "----a boundary of tests";

/// The content type of every form made here.
pub(crate) fn content_type() -> String {
    format!("multipart/form-data; boundary=\"{BOUNDARY}\"")
}

/// A form that is being filled in.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// Name and value, in order.
    pub fields: Vec<(String, String)>,
    /// The name of the file.
    pub file_name: String,
    /// The file.
    pub content: Bytes,
    /// Whether the file comes before everything else, as one old tool writes it.
    pub content_first: bool,
    /// How the file is announced; made from its name where this is empty.
    pub disposition: String,
}

impl Form {
    /// A good form for a file of the project `a-b`.
    pub(crate) fn of(sample: &Sample) -> Self {
        let name = FileName::parse(&sample.name).expect("a name for a file");
        let filetype = if name.kind() == FileKind::Wheel { "bdist_wheel" } else { "sdist" };
        let fields = [
            (":action", "file_upload"),
            ("protocol_version", "1"),
            ("metadata_version", "2.1"),
            ("name", "A.b"),
            ("version", &sample.version),
            ("filetype", filetype),
            ("pyversion", "py3"),
            ("classifiers", "one"),
            ("classifiers", "two"),
            ("sha256_digest", &sample.sha256()),
        ];
        Self {
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            file_name: sample.name.clone(),
            content: sample.bytes.clone(),
            content_first: false,
            disposition: String::new(),
        }
    }

    /// Sets a field, or adds it.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Leaves a field out.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    /// Changes it in any way.
    #[must_use]
    pub(crate) fn set(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        let mut body = Vec::new();
        let disposition = match self.disposition.as_str() {
            "" => format!("form-data; name=\"content\"; filename=\"{}\"", self.file_name),
            disposition => disposition.to_owned(),
        };
        let mut content = format!(
            "--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        content.extend_from_slice(&self.content);
        content.extend_from_slice(b"\r\n");
        if self.content_first {
            body.append(&mut content);
        }
        for (name, value) in &self.fields {
            let field = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(field.as_bytes());
        }
        body.append(&mut content);
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        body.into()
    }
}

/// The parts of a form that upstream got, with their values.
pub(crate) fn parts(seen: &Seen) -> Vec<(FormPart, Vec<u8>)> {
    let mut parser = FormParser::new(seen.header("content-type").unwrap_or_default()).expect("a form");
    let mut parts = Vec::new();
    let fed = parser.feed(&seen.body, &mut |event| {
        match event {
            FormEvent::Begin(part) => parts.push((part, Vec::new())),
            FormEvent::Data(data) => parts.last_mut().expect("a part").1.extend_from_slice(data),
            FormEvent::End => {}
        }
        Ok::<_, FormFault>(())
    });
    fed.and_then(|()| parser.finish()).expect("a form that can be read");
    parts
}

/// Name and value of the fields of a form that upstream got, the file left out.
pub(crate) fn fields(seen: &Seen) -> Vec<(String, String)> {
    let plain = parts(seen).into_iter().filter(|(part, _)| part.file_name.is_none());
    plain.map(|(part, value)| (part.name, String::from_utf8(value).expect("text"))).collect()
}

/// Stands between the proxy and its upstream, and hangs up on uploads.
pub(crate) struct Between {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many more uploads it hangs up on.
    left: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Between {
    /// Hangs up on the first `uploads` after so many bytes of their connection went to upstream.
    pub(crate) async fn hanging_up(upstream: SocketAddr, uploads: usize, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (left, tasks) = (Arc::new(AtomicUsize::new(uploads)), Tasks::new());
        tasks.spawn_loop("between", {
            let (left, tasks) = (left.clone(), tasks.clone());
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let left = left.clone();
                    tasks.spawn_loop("relay", async move {
                        let _ = relay(socket, upstream, &left, after).await;
                    });
                }
            }
        });
        Self { address, left, tasks }
    }

    /// How many uploads it will still hang up on.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr, left: &AtomicUsize, after: usize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    let (mut there, mut back) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut sent: Option<usize> = None;
    loop {
        tokio::select! {
            read = client.read(&mut there) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                if sent.is_none() && there.starts_with(b"POST ") && left.load(Ordering::SeqCst) > 0 {
                    left.fetch_sub(1, Ordering::SeqCst);
                    sent = Some(0);
                }
                match &mut sent {
                    Some(sent) if *sent + count >= after => {
                        server.write_all(&there[..after - *sent]).await?;
                        return Ok(());
                    }
                    Some(sent) => *sent += count,
                    None => {}
                }
                server.write_all(&there[..count]).await?;
            }
            read = server.read(&mut back) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                client.write_all(&back[..count]).await?;
            }
        }
    }
}
