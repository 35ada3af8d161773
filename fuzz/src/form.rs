//! The form of an upload: its framing, and its fields.

use wheelport_index::{ContentDigests, FormError, FormEvent, FormFault, FormFields, FormParser, Sha256};

use crate::names::safe;
use crate::split;

/// `CONTENT TYPE\nSIZE OF A CHUNK, BODY`: how a form is cut into chunks changes nothing.
pub fn form(bytes: &[u8]) {
    let (content_type, body) = split(bytes, b'\n');
    let Ok(content_type) = std::str::from_utf8(content_type) else { return };
    let Some((size, body)) = body.split_first() else { return };
    let whole = parse(content_type, body, body.len().max(1));
    let pieces = parse(content_type, body, usize::from(*size).max(1));
    assert_eq!(whole, pieces);
}

/// What a form says, with the bytes of each part joined.
fn parse(content_type: &str, body: &[u8], chunk: usize) -> Result<Vec<(String, Option<String>, Vec<u8>)>, FormFault> {
    let mut parser = FormParser::new(content_type)?;
    let (mut parts, mut is_open) = (Vec::new(), false);
    let mut sink = |event: FormEvent<'_>| {
        match event {
            FormEvent::Begin(part) => {
                assert!(!std::mem::replace(&mut is_open, true), "a part begins in a part");
                parts.push((part.name, part.file_name, Vec::new()));
            }
            FormEvent::Data(data) => {
                assert!(is_open && !data.is_empty(), "data outside a part");
                parts.last_mut().expect("a part is open").2.extend_from_slice(data);
            }
            FormEvent::End => assert!(std::mem::replace(&mut is_open, false), "a part ends twice"),
        }
        Ok::<(), FormFault>(())
    };
    for chunk in body.chunks(chunk) {
        parser.feed(chunk, &mut sink)?;
    }
    parser.finish()?;
    assert!(!is_open, "a complete form has complete parts");
    let delimiter = content_type.rsplit_once("boundary=").map(|(_, boundary)| format!("\r\n--{}", boundary.trim()));
    if let Some(delimiter) = delimiter.filter(|text| text.is_ascii() && !text.contains(['"', ';'])) {
        for (_, _, data) in &parts {
            assert!(
                !data.windows(delimiter.len()).any(|window| window == delimiter.as_bytes()),
                "a boundary in a part"
            );
        }
    }
    Ok(parts)
}

/// `NAME=VALUE` records behind a 0xFF each, then `@FILE NAME`, then the file itself.
pub fn fields(bytes: &[u8]) {
    let mut fields = FormFields::default();
    let mut rest = bytes;
    while let (record, Some((_, more))) = (split(rest, 0xff).0, rest.split_at_checked(split(rest, 0xff).0.len() + 1)) {
        rest = more;
        if let Some(name) = record.strip_prefix(b"@") {
            if fields.content(String::from_utf8(name.to_vec()).ok()).is_err() {
                return;
            }
            continue;
        }
        let (name, value) = split(record, b'=');
        let Ok(name) = std::str::from_utf8(name) else { return };
        if let Err(error) = fields.put(name, value.to_vec()) {
            return printable(&error);
        }
    }
    let form = match fields.check() {
        Ok(form) => form,
        Err(error) => return printable(&error),
    };
    safe(form.file.as_str());
    safe(form.version.as_str());
    assert!(!form.digests.is_empty());
    let found = ContentDigests { sha256: Sha256::of(rest), md5: String::new(), blake2b_256: String::new() };
    if let Err(error) = form.check_digests(&found) {
        printable(&error);
    }
    match form.check_content(rest) {
        Ok(metadata) => assert!(metadata.len() <= 16 << 20),
        Err(error) => printable(&error),
    }
}

/// A refusal is one sentence that a publisher can read.
fn printable(error: &FormError) {
    let text = error.to_string();
    assert!(text.len() < 4096 && !text.contains(['\n', '\r', '\u{1b}', '\0']), "{text:?}");
}
