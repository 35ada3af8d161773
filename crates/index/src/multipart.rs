//! `multipart/form-data` (RFC 7578) as it streams in: a push parser that buffers a few kilobytes at most.
//!
//! Chunks go in, events come out. The parser is strict where two parsers could read the same bytes differently: what
//! a publisher believes to have sent and what is published must be the same. What is merely said twice, alike, is fine.

use crate::sabotage::sabotaged;
use memchr::memmem::Finder;

/// The most bytes of a part's headers.
const MAX_HEADERS: usize = 8 << 10;
/// The longest boundary (RFC 2046).
const MAX_BOUNDARY: usize = 70;

/// Why a form cannot be parsed. The text is a clause that the client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    /// The content type is a different one, or has no usable boundary.
    #[error("the request is not a multipart/form-data form with a boundary")]
    ContentType,
    /// The form begins with something other than its boundary.
    #[error("the form does not begin with its boundary")]
    Beginning,
    /// Something other than a line break or the end follows a boundary.
    #[error("a boundary of the form is malformed")]
    Boundary,
    /// The headers of a part are longer than 8 KiB.
    #[error("the headers of a form field are longer than {MAX_HEADERS} bytes")]
    HeadersTooLong,
    /// The headers of a part do not name its field, or name it in a way that could be misread.
    #[error("the headers of a form field are malformed")]
    Headers,
    #[error("the form is incomplete: its end is missing")]
    Truncated,
}

/// What the headers of a part say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormPart {
    pub name: String,
    /// The name of the file, if the part is one.
    pub file_name: Option<String>,
}

/// What the parser reads while a form streams in.
#[derive(Debug, PartialEq, Eq)]
pub enum FormEvent<'a> {
    Begin(FormPart),
    /// Some bytes of the part that has begun.
    Data(&'a [u8]),
    /// The part is complete.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParserState {
    Beginning,
    AfterBoundary,
    Headers,
    Body,
    Finished,
}

pub struct FormParser {
    /// CRLF, two hyphens, the boundary.
    delimiter: Finder<'static>,
    state: ParserState,
    /// Bytes that the parser cannot interpret before more of them arrive.
    buffered: Vec<u8>,
}

impl FormParser {
    /// A parser for a form of this content type.
    pub fn new(content_type: &str) -> Result<Self, FormFault> {
        let boundary = boundary(content_type).ok_or(FormFault::ContentType)?;
        let delimiter = Finder::new(&[b"\r\n--", boundary.as_bytes()].concat()).into_owned();
        // The first boundary may come without the line break before it.
        Ok(Self { delimiter, state: ParserState::Beginning, buffered: b"\r\n".to_vec() })
    }

    /// Parses the next chunk and reports to `sink` what it contains.
    pub fn feed<E: From<FormFault>>(
        &mut self,
        chunk: &[u8],
        sink: &mut impl FnMut(FormEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.state == ParserState::Finished {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffered);
        buffer.extend_from_slice(chunk);
        let mut at = 0;
        while let Some(used) = self.step(&buffer[at..], sink)? {
            at += used;
            if self.state == ParserState::Finished {
                return Ok(());
            }
        }
        buffer.drain(..at);
        self.buffered = buffer;
        Ok(())
    }

    /// Ends the form, which must be complete.
    pub fn finish(self) -> Result<(), FormFault> {
        if self.state == ParserState::Finished { Ok(()) } else { Err(FormFault::Truncated) }
    }

    /// Parses what it can from the front and returns how many bytes that was; `None` if it needs more bytes first.
    fn step<E: From<FormFault>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(FormEvent<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        match self.state {
            ParserState::Beginning => Ok(self.beginning(bytes)?),
            ParserState::AfterBoundary => Ok(self.after_boundary(bytes)?),
            ParserState::Headers => {
                let Some((part, used)) = part_headers(bytes)? else { return Ok(None) };
                self.state = ParserState::Body;
                sink(FormEvent::Begin(part))?;
                Ok(Some(used))
            }
            ParserState::Body => self.body(bytes, sink),
            ParserState::Finished => Ok(None),
        }
    }

    fn beginning(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormFault> {
        let delimiter = self.delimiter.needle();
        // A form may begin with an empty line, and then needs no line break put before it.
        let skip = if bytes.starts_with(b"\r\n\r\n") { 2 } else { 0 };
        let bytes = &bytes[skip..];
        if bytes.len() < delimiter.len() {
            let could_be = delimiter.starts_with(bytes) || b"\r\n\r\n".starts_with(bytes);
            return if could_be { Ok(None) } else { Err(FormFault::Beginning) };
        }
        if !bytes.starts_with(delimiter) {
            return Err(FormFault::Beginning);
        }
        self.state = ParserState::AfterBoundary;
        Ok(Some(skip + delimiter.len()))
    }

    fn after_boundary(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormFault> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = ParserState::Headers;
                Ok(Some(2))
            }
            [b'-', b'-', ..] => {
                self.state = ParserState::Finished;
                Ok(Some(2))
            }
            [] | [b'\r' | b'-'] => Ok(None),
            _ => Err(FormFault::Boundary),
        }
    }

    fn body<E: From<FormFault>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(FormEvent<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let delimiter = self.delimiter.needle().len();
        if let Some(end) = self.delimiter.find(bytes) {
            if end > 0 {
                sink(FormEvent::Data(&bytes[..end]))?;
            }
            sink(FormEvent::End)?;
            self.state = ParserState::AfterBoundary;
            return Ok(Some(end + delimiter));
        }
        // The last bytes could be the beginning of a boundary.
        let safe = bytes.len().saturating_sub(delimiter - 1);
        if safe == 0 {
            return Ok(None);
        }
        sink(FormEvent::Data(&bytes[..safe]))?;
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
        if name.eq_ignore_ascii_case("boundary") {
            set(&mut boundary, value)?;
        }
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    boundary
        .filter(|text| (1..=MAX_BOUNDARY).contains(&text.len()) && text.chars().all(allowed) && !text.ends_with(' '))
}

/// The headers of a part and how many bytes they take; `None` if they are not complete yet.
fn part_headers(bytes: &[u8]) -> Result<Option<(FormPart, usize)>, FormFault> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = memchr::memmem::find(bytes, END) else {
        // A part of the end may be here already.
        let is_too_long = bytes.len() >= MAX_HEADERS + END.len();
        return if is_too_long { Err(FormFault::HeadersTooLong) } else { Ok(None) };
    };
    if end > MAX_HEADERS {
        return Err(FormFault::HeadersTooLong);
    }
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| FormFault::Headers)?;
    let mut found = None;
    for line in text.split("\r\n") {
        // Folded lines are obsolete, and parsers disagree about them.
        let (name, value) =
            line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])).ok_or(FormFault::Headers)?;
        if line.contains(['\r', '\n', '\0']) {
            return Err(FormFault::Headers);
        }
        if name.trim().eq_ignore_ascii_case("content-disposition") {
            let part = disposition(value.trim()).ok_or(FormFault::Headers)?;
            set(&mut found, part).ok_or(FormFault::Headers)?;
        }
    }
    Ok(Some((found.ok_or(FormFault::Headers)?, end + 4)))
}

fn disposition(value: &str) -> Option<FormPart> {
    let mut parameters = Parameters(value);
    if !parameters.word().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut plain, mut extended) = ((None, None), (None, None));
    while let Some((key, value)) = parameters.next()? {
        match key.to_ascii_lowercase().as_str() {
            "name" => set(&mut plain.0, value)?,
            "filename" => set(&mut plain.1, value)?,
            "name*" => set(&mut extended.0, extended_value(&value)?)?,
            "filename*" => set(&mut extended.1, extended_value(&value)?)?,
            _ => {}
        }
    }
    // RFC 7578 forbids the extended form, and .NET writes it all the same: it must repeat what the plain form says.
    let agree = |plain: &Option<String>, extended: &Option<String>| {
        extended.is_none() || extended == plain || sabotaged("extended-name")
    };
    if !agree(&plain.0, &extended.0) || !agree(&plain.1, &extended.1) {
        return None;
    }
    Some(FormPart { name: plain.0?, file_name: plain.1 })
}

/// Sets what may be said once, or again with the same words.
fn set<T: PartialEq>(slot: &mut Option<T>, value: T) -> Option<()> {
    if let Some(said) = slot {
        return (*said == value || sabotaged("parameter-twice")).then_some(());
    }
    *slot = Some(value);
    Some(())
}

/// The text of an extended parameter in UTF-8 (RFC 8187), such as `utf-8''a%20b`. Nothing in it may be able to end a
/// quoted name.
fn extended_value(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, _language, text) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let escaped = digit(bytes.next())? << 4 | digit(bytes.next())?;
        decoded.push(u8::try_from(escaped).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// Parses `word; name=value; name="value"` from the front.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_at(self.0.find(';').unwrap_or(self.0.len()));
        self.0 = rest;
        word.trim()
    }

    /// The next parameter; the outer `None` means that the value is ambiguous.
    #[expect(clippy::option_option, reason = "the end of the list and an ambiguous list are two things")]
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
        // Whether a backslash escapes what follows depends on the parser.
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

    /// The fields of a form that arrives in chunks of this size.
    fn read(form: &[u8], size: usize) -> Result<Vec<Field>, FormFault> {
        let mut parser = FormParser::new(TYPE)?;
        let mut parts = Vec::new();
        let mut open = false;
        for chunk in form.chunks(size) {
            parser.feed(chunk, &mut |event| {
                match event {
                    FormEvent::Begin(FormPart { name, file_name }) => {
                        assert!(!std::mem::replace(&mut open, true));
                        parts.push((name, file_name, Vec::new()));
                    }
                    FormEvent::Data(data) => parts.last_mut().expect("a part").2.extend_from_slice(data),
                    FormEvent::End => assert!(std::mem::replace(&mut open, false)),
                }
                Ok::<_, FormFault>(())
            })?;
        }
        parser.finish()?;
        Ok(parts)
    }

    const FORM: &[u8] = b"--xyz\r\nContent-Disposition: form-data; name=\":action\"\r\n\r\nfile_upload\r\n--xyz\r\n\
        content-disposition: FORM-DATA; filename=\"a-1.0.tar.gz\"; name=content\r\nContent-Type: x/y\r\n\r\n\
        \r\n--xy\r\n--xz\r\n-\r\n--xyz\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--xyz--\r\n";

    #[test]
    fn a_form_is_the_same_in_chunks_of_any_size() {
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
            assert_eq!(read(&FORM[..length], 7), Err(FormFault::Truncated), "{length}");
        }
        assert!(read(&FORM[..end], 7).is_ok());
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for (form, fault) in [
            (&b"preamble\r\n--xyz\r\n"[..], FormFault::Beginning),
            (b"\r\n\r\n--xyz\r\n", FormFault::Beginning),
            (b"--xyzz\r\n", FormFault::Boundary),
            (b"--xyz \r\n", FormFault::Boundary),
            (b"--xyz\r\n\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Type: x/y\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data; name=a; name*=UTF-8''b\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''b\r\n\r\nx", FormFault::Headers),
            (
                b"--xyz\r\nContent-Disposition: form-data; name=a; filename=b; filename*=UTF-8''c\r\n\r\nx",
                FormFault::Headers,
            ),
            (
                b"--xyz\r\nContent-Disposition: form-data; name=a; filename=b; filename*=latin1''b\r\n\r\nx",
                FormFault::Headers,
            ),
            (
                b"--xyz\r\nContent-Disposition: form-data; name=a; filename=b; filename*=UTF-8''%6\r\n\r\nx",
                FormFault::Headers,
            ),
            (b"--xyz\r\nContent-Disposition: form-data; name=\"a\\\"b\"\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: form-data; name=a\nX: y\r\n\r\nx", FormFault::Headers),
            (b"--xyz\r\nContent-Disposition: attachment; name=a\r\n\r\nx", FormFault::Headers),
            (
                b"--xyz\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n",
                FormFault::Headers,
            ),
        ] {
            assert_eq!(read(form, 5), Err(fault), "{}", String::from_utf8_lossy(form));
        }
        let long = [b"--xyz\r\nX: ".to_vec(), vec![b'x'; 2 * MAX_HEADERS]].concat();
        assert_eq!(read(&long, 100), Err(FormFault::HeadersTooLong));
    }

    #[test]
    fn the_longest_headers_are_the_same_however_they_are_cut() {
        let form = |length: usize| {
            let disposition = "Content-Disposition: form-data; name=a\r\nX: ";
            let padding = "x".repeat(length - disposition.len());
            format!("--xyz\r\n{disposition}{padding}\r\n\r\nv\r\n--xyz--\r\n").into_bytes()
        };
        for (length, is_read) in [(MAX_HEADERS, true), (MAX_HEADERS + 1, false)] {
            let form = form(length);
            for chunk in [1, 3, 4, 1000, form.len()] {
                assert_eq!(read(&form, chunk).is_ok(), is_read, "{length} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn what_is_said_twice_alike_is_read_once() {
        for headers in [
            "Content-Disposition: form-data; name=a; filename=b; filename*=utf-8''b",
            "Content-Disposition: form-data; name=a; filename=\"b\"; filename*=UTF-8'en'%62",
            "Content-Disposition: form-data; filename*=\"utf-8''b\"; name*=UTF-8''a; name=a; filename=b; name=\"a\"",
            "Content-Disposition: form-data; name=a; filename=b\r\nContent-Disposition: form-data; name=a; filename=b",
        ] {
            let form = format!("--xyz\r\n{headers}\r\n\r\nx\r\n--xyz--");
            let expected = vec![("a".to_owned(), Some("b".to_owned()), b"x".to_vec())];
            assert_eq!(read(form.as_bytes(), 7), Ok(expected), "{headers}");
        }
        assert!(FormParser::new("multipart/form-data; boundary=a; boundary=\"a\"").is_ok());
    }

    #[test]
    fn a_content_type_has_one_boundary() {
        for good in ["multipart/form-data; boundary=\"a b\"", "Multipart/Form-Data;charset=utf-8; Boundary=a"] {
            assert!(FormParser::new(good).is_ok(), "{good}");
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
            assert!(matches!(FormParser::new(wrong), Err(FormFault::ContentType)), "{wrong}");
        }
        assert!(FormParser::new(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
    }
}
