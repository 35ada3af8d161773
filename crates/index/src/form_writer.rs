//! Writing an upload form: the parts of a form that was parsed, written again in one spelling that every parser reads
//! alike.
//!
//! What comes from outside is a field's name and value and nothing else: names that could be misread never get here
//! ([`FormPart`] has none), and neither names nor values can hold the boundary, which no publisher can guess.

use super::multipart::FormPart;

/// Writes the parts of one form.
#[derive(Debug, Clone)]
pub struct FormWriter {
    boundary: String,
}

impl FormWriter {
    /// A form with a boundary of these 128 bits, which must be random: a value that holds the boundary would end early.
    pub fn new(random: u128) -> Self {
        Self { boundary: format!("wheelport-{random:032x}") }
    }

    /// The content type of the form.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// What stands before the value of a part. Files have a type, because some parsers tell them apart by it.
    pub fn begin(&self, part: &FormPart) -> Vec<u8> {
        let FormPart { name, file_name } = part;
        let begin = format!("--{}\r\nContent-Disposition: form-data; name=\"{name}\"", self.boundary);
        match file_name {
            Some(file) => format!("{begin}; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n"),
            None => begin + "\r\n\r\n",
        }
        .into_bytes()
    }

    /// What stands behind the value of a part.
    pub const fn end(&self) -> &'static [u8] {
        b"\r\n"
    }

    /// A part that is a plain field.
    pub fn field(&self, name: &str, value: &str) -> Vec<u8> {
        let mut field = self.begin(&FormPart { name: name.to_owned(), file_name: None });
        field.extend_from_slice(value.as_bytes());
        field.extend_from_slice(self.end());
        field
    }

    /// What stands behind the last part.
    pub fn finish(&self) -> Vec<u8> {
        format!("--{}--\r\n", self.boundary).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multipart::{FormEvent, FormFault, FormParser};

    #[test]
    fn what_is_written_is_read_back() -> Result<(), FormFault> {
        let writer = FormWriter::new(7);
        let file = FormPart { name: "content".to_owned(), file_name: Some("a-1.0.tar.gz".to_owned()) };
        let form = [
            writer.field("name", "A.b\r\n--x"),
            writer.begin(&file),
            b"--wheelport-\r\n".to_vec(),
            writer.end().to_vec(),
            writer.finish(),
        ]
        .concat();
        let (mut parser, mut parts) = (FormParser::new(&writer.content_type())?, Vec::new());
        parser.feed(&form, &mut |event| {
            match event {
                FormEvent::Begin(part) => parts.push((part, Vec::new())),
                FormEvent::Data(data) => parts.last_mut().expect("a part").1.extend_from_slice(data),
                FormEvent::End => {}
            }
            Ok::<_, FormFault>(())
        })?;
        parser.finish()?;
        let name = FormPart { name: "name".to_owned(), file_name: None };
        assert_eq!(parts, [(name, b"A.b\r\n--x".to_vec()), (file, b"--wheelport-\r\n".to_vec())]);
        Ok(())
    }
}
