//! `multipart/form-data` (RFC 7578) as it streams in: a push parser that holds a few kilobytes whatever comes.
//!
//! Pure: pieces go in, events come out. It is strict where two readers of the same bytes could come to different
//! results, because the form is passed on as it came and the repository reads it with another parser.

use memchr::memmem::Finder;

/// The longest head of a part, in bytes.
pub const MAX_HEAD: usize = 8 << 10;
/// The longest boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// Why a form cannot be read. The text is a clause that a client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The content type is another one, or has no usable boundary.
    #[error("the request is no multipart/form-data form with a boundary")]
    ContentType,
    /// Something stands where a boundary belongs.
    #[error("the form does not begin with its boundary")]
    Beginning,
    /// A boundary is followed by something strange.
    #[error("a boundary of the form is malformed")]
    Boundary,
    /// The head of a part is longer than [`MAX_HEAD`].
    #[error("the head of a form field is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// The head of a part does not say which field it is, or says it in a way that could be misread.
    #[error("the head of a form field is malformed")]
    Head,
    /// The end is missing.
    #[error("the form is incomplete: its end is missing")]
    Truncated,
}

/// What a part says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The name of the file in it, if it says that it is one.
    pub file_name: Option<String>,
}

/// What happens while a form streams in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A part begins.
    Begin(Part),
    /// Some bytes of it.
    Data(&'a [u8]),
    /// It is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Beginning,
    AfterBoundary,
    Head,
    Body,
    Finished,
}

/// The parser.
pub struct Parser {
    /// CRLF, two hyphens, the boundary.
    delimiter: Finder<'static>,
    state: State,
    held: Vec<u8>,
}

impl Parser {
    /// A parser for a form of this content type.
    pub fn new(content_type: &str) -> Result<Self, Fault> {
        let boundary = boundary(content_type).ok_or(Fault::ContentType)?;
        let delimiter = Finder::new(&[b"\r\n--", boundary.as_bytes()].concat()).into_owned();
        // The first boundary may come without the line break that ends the line before it.
        Ok(Self { delimiter, state: State::Beginning, held: b"\r\n".to_vec() })
    }

    /// Takes the next bytes and tells `sink` what they are.
    pub fn feed<E: From<Fault>>(
        &mut self,
        piece: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.state == State::Finished {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.held);
        buffer.extend_from_slice(piece);
        let mut at = 0;
        while let Some(used) = self.step(&buffer[at..], sink)? {
            at += used;
            if self.state == State::Finished {
                return Ok(());
            }
        }
        buffer.drain(..at);
        self.held = buffer;
        Ok(())
    }

    /// All bytes are in.
    pub fn finish(self) -> Result<(), Fault> {
        if self.state == State::Finished { Ok(()) } else { Err(Fault::Truncated) }
    }

    /// Takes what it can from the front; `None` when more bytes are needed first.
    fn step<E: From<Fault>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        match self.state {
            State::Beginning => Ok(self.beginning(bytes)?),
            State::AfterBoundary => Ok(self.after_boundary(bytes)?),
            State::Head => {
                let Some((part, used)) = head(bytes)? else { return Ok(None) };
                self.state = State::Body;
                sink(Event::Begin(part))?;
                Ok(Some(used))
            }
            State::Body => self.body(bytes, sink),
            State::Finished => Ok(None),
        }
    }

    fn beginning(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let delimiter = self.delimiter.needle();
        // A form may begin with an empty line; the line break put in front of it is then one too many.
        let skip = if bytes.starts_with(b"\r\n\r\n") { 2 } else { 0 };
        let bytes = &bytes[skip..];
        if bytes.len() < delimiter.len() {
            let could_be = delimiter.starts_with(bytes) || b"\r\n\r\n".starts_with(bytes);
            return if could_be { Ok(None) } else { Err(Fault::Beginning) };
        }
        if !bytes.starts_with(delimiter) {
            return Err(Fault::Beginning);
        }
        self.state = State::AfterBoundary;
        Ok(Some(skip + delimiter.len()))
    }

    fn after_boundary(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::Head;
                Ok(Some(2))
            }
            [b'-', b'-', ..] => {
                self.state = State::Finished;
                Ok(Some(2))
            }
            [] | [b'\r' | b'-'] => Ok(None),
            _ => Err(Fault::Boundary),
        }
    }

    fn body<E: From<Fault>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let delimiter = self.delimiter.needle().len();
        if let Some(end) = self.delimiter.find(bytes) {
            if end > 0 {
                sink(Event::Data(&bytes[..end]))?;
            }
            sink(Event::End)?;
            self.state = State::AfterBoundary;
            return Ok(Some(end + delimiter));
        }
        // The end could be the beginning of a boundary.
        let safe = bytes.len().saturating_sub(delimiter - 1);
        if safe == 0 {
            return Ok(None);
        }
        sink(Event::Data(&bytes[..safe]))?;
        Ok(Some(safe))
    }
}

/// The boundary in a content type; `None` if there is none, or more than one.
fn boundary(content_type: &str) -> Option<String> {
    let mut parameters = Parameters(content_type);
    if !parameters.word().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut boundary = None;
    while let Some((name, value)) = parameters.next()? {
        if name.eq_ignore_ascii_case("boundary") && boundary.replace(value).is_some() {
            return None;
        }
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    boundary
        .filter(|text| (1..=MAX_BOUNDARY).contains(&text.len()) && text.chars().all(allowed) && !text.ends_with(' '))
}

/// The head of a part and the bytes it takes; `None` when it is not complete yet.
fn head(bytes: &[u8]) -> Result<Option<(Part, usize)>, Fault> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > MAX_HEAD { Err(Fault::HeadTooLong) } else { Ok(None) };
    };
    if end > MAX_HEAD {
        return Err(Fault::HeadTooLong);
    }
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Fault::Head)?;
    let mut found = None;
    for line in text.split("\r\n") {
        // Folded lines have been out of use for long, and are read in more than one way.
        let (name, value) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])).ok_or(Fault::Head)?;
        if line.contains(['\r', '\n', '\0']) {
            return Err(Fault::Head);
        }
        if name.trim().eq_ignore_ascii_case("content-disposition") {
            let part = disposition(value.trim()).ok_or(Fault::Head)?;
            if found.replace(part).is_some() {
                return Err(Fault::Head);
            }
        }
    }
    Ok(Some((found.ok_or(Fault::Head)?, end + 4)))
}

fn disposition(value: &str) -> Option<Part> {
    let mut parameters = Parameters(value);
    if !parameters.word().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut file_name) = (None, None);
    while let Some((key, value)) = parameters.next()? {
        let place = match key.to_ascii_lowercase().as_str() {
            "name" => &mut name,
            "filename" => &mut file_name,
            // RFC 7578 forbids the extended form; a reader that prefers it would see another name.
            "name*" | "filename*" => return None,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(Part { name: name?, file_name })
}

/// `word; name=value; name="value"`, read from the front.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_at(self.0.find(';').unwrap_or(self.0.len()));
        self.0 = rest;
        word.trim()
    }

    /// The next parameter; the outer `None` is a value that cannot be read in one way only.
    #[expect(clippy::option_option, reason = "the end of the list and an unreadable list are two things")]
    fn next(&mut self) -> Option<Option<(String, String)>> {
        let rest = self.0.trim_start();
        let Some(rest) = rest.strip_prefix(';').map(str::trim_start) else {
            return rest.is_empty().then_some(None);
        };
        if rest.is_empty() {
            self.0 = rest;
            return Some(None);
        }
        let (name, rest) = rest.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(';').unwrap_or(rest.len())),
        };
        self.0 = rest;
        // A backslash may or may not escape what follows, depending on the reader.
        let plain = !value.contains(['\\', '"']) && !name.trim().contains([' ', '\t', '"', ';']);
        plain.then(|| Some((name.trim().to_owned(), value.trim_end().to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=xyz";

    /// Name, file name and value.
    type Field = (String, Option<String>, Vec<u8>);

    /// What a form consists of, when it comes in pieces of this size.
    fn read(form: &[u8], size: usize) -> Result<Vec<Field>, Fault> {
        let mut parser = Parser::new(TYPE)?;
        let mut parts = Vec::new();
        let mut open = false;
        for piece in form.chunks(size) {
            parser.feed(piece, &mut |event| {
                match event {
                    Event::Begin(Part { name, file_name }) => {
                        assert!(!std::mem::replace(&mut open, true));
                        parts.push((name, file_name, Vec::new()));
                    }
                    Event::Data(data) => parts.last_mut().expect("a part").2.extend_from_slice(data),
                    Event::End => assert!(std::mem::replace(&mut open, false)),
                }
                Ok::<_, Fault>(())
            })?;
        }
        parser.finish()?;
        Ok(parts)
    }

    const FORM: &[u8] = b"--xyz\r\nContent-Disposition: form-data; name=\":action\"\r\n\r\nfile_upload\r\n--xyz\r\n\
        content-disposition: FORM-DATA; filename=\"a-1.0.tar.gz\"; name=content\r\nContent-Type: x/y\r\n\r\n\
        \r\n--xy\r\n--xz\r\n-\r\n--xyz\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--xyz--\r\n";

    #[test]
    fn a_form_is_the_same_in_pieces_of_any_size() {
        let expected = vec![
            (":action".to_owned(), None, b"file_upload".to_vec()),
            ("content".to_owned(), Some("a-1.0.tar.gz".to_owned()), b"\r\n--xy\r\n--xz\r\n-".to_vec()),
            ("empty".to_owned(), None, Vec::new()),
        ];
        for size in 1..=FORM.len() {
            assert_eq!(read(FORM, size).as_ref(), Ok(&expected), "{size}");
            let with_empty_line = [b"\r\n", FORM].concat();
            assert_eq!(read(&with_empty_line, size).as_ref(), Ok(&expected), "{size}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let end = FORM.len() - b"\r\n".len();
        for length in 0..end {
            assert_eq!(read(&FORM[..length], 7), Err(Fault::Truncated), "{length}");
        }
        assert!(read(&FORM[..end], 7).is_ok());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for (form, fault) in [
            (&b"preamble\r\n--xyz\r\n"[..], Fault::Beginning),
            (b"\r\n\r\n--xyz\r\n", Fault::Beginning),
            (b"--xyzz\r\n", Fault::Boundary),
            (b"--xyz \r\n", Fault::Boundary),
            (b"--xyz\r\n\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Type: x/y\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data; name=a; name*=UTF-8''b\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data; name=\"a\\\"b\"\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\nx", Fault::Head),
            (b"--xyz\r\nContent-Disposition: attachment; name=a\r\n\r\nx", Fault::Head),
            (
                b"--xyz\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n",
                Fault::Head,
            ),
        ] {
            assert_eq!(read(form, 5), Err(fault), "{}", String::from_utf8_lossy(form));
        }
        let long = [b"--xyz\r\nX: ".to_vec(), vec![b'x'; 2 * MAX_HEAD]].concat();
        assert_eq!(read(&long, 100), Err(Fault::HeadTooLong));
    }

    #[test]
    fn a_content_type_has_one_boundary() {
        for good in ["multipart/form-data; boundary=\"a b\"", "Multipart/Form-Data;charset=utf-8; Boundary=a"] {
            assert!(Parser::new(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "text/plain; boundary=a",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=a\u{e9}",
        ] {
            assert!(matches!(Parser::new(wrong), Err(Fault::ContentType)), "{wrong}");
        }
        assert!(Parser::new(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
    }
}
