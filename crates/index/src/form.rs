//! The form of an upload: its fields, and the rules that they must follow before we trust the file.
//!
//! The fields are those of PyPI's upload API as publishing tools send them. Fields that decide nothing here are passed
//! on as they are. Those that decide something are read, checked, and written once into the form that the repository
//! gets ([`UploadForm::fields`]): it must not read another value than was checked. So such a field may occur again only
//! with the same value, and no other spelling of its name may occur.

use crate::archive::ReadAt;
use crate::digest::Sha256;
use crate::excerpt::excerpt;
use crate::filename::{FileKind, FileName, InvalidComponent, VersionSegment};
use crate::form_writer::FormWriter;
use crate::name::{InvalidName, ProjectName};
use crate::sabotage::sabotaged;
use crate::sdist::{self, SdistError};
use crate::version::VersionKey;
use crate::wheel::{self, CoreFields, WheelError};

/// What old tools send for a field without a value.
const PLACEHOLDERS: [&str; 3] = ["", "UNKNOWN", "None"];

/// Why an upload is refused. The text is a clause that the publisher sees.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// A required field is missing or empty.
    #[error("the form has no field '{0}'")]
    Missing(&'static str),
    /// A field that decides something occurs twice, with two values.
    #[error("the form has the field '{0}' twice")]
    Twice(&'static str),
    /// A field whose name could be read as that of one that decides something.
    #[error("the form has a field '{0}', whose name is too much like '{1}'")]
    Alike(String, &'static str),
    /// A field that decides something is not UTF-8.
    #[error("the field '{0}' is not UTF-8")]
    Encoding(&'static str),
    /// The form asks for something other than publishing a file.
    #[error("':action' is '{0}'; only 'file_upload' is supported, and a project needs no registration")]
    Action(String),
    /// Another version of the upload API.
    #[error("'protocol_version' is '{0}'; only 1 is supported")]
    Protocol(String),
    #[error("the project name '{0}' is not valid: {1}")]
    Project(String, InvalidName),
    /// A version that cannot be part of an address.
    #[error("the version '{0}' is not valid: it {1}")]
    Version(String, InvalidComponent),
    /// `content` has no file name.
    #[error("the field 'content' has no file name")]
    NoFileName,
    #[error("the file name '{0}' is not valid: it {1}")]
    FileName(String, InvalidComponent),
    /// Neither a wheel nor a source distribution.
    #[error("'{0}' is neither a wheel (.whl) nor a source distribution (.tar.gz, .zip)")]
    Format(FileName),
    /// `filetype` and file name disagree.
    #[error("'filetype' is '{said}', but the file name '{file}' says otherwise")]
    FileType { said: String, file: FileName },
    /// The file name is for another project or version.
    #[error("the file name '{file}' does not belong to version {version} of project '{project}'")]
    OtherFile {
        file: FileName,
        /// The project of the form.
        project: ProjectName,
        /// The version of the form.
        version: String,
    },
    #[error("the form has no digest of the file (sha256_digest, blake2_256_digest or md5_digest)")]
    NoDigest,
    /// A digest of the form is not the digest of the file.
    #[error(
        "the field '{0}' is not the digest of the file that arrived; the file was damaged in transit or is a \
         different one"
    )]
    Digest(&'static str),
    /// The metadata of the wheel cannot be read.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The metadata of the source distribution cannot be read.
    #[error(transparent)]
    Sdist(#[from] SdistError),
    /// The file's own metadata is for another project or version.
    #[error("the metadata inside the file names {found:?} as its {field}; the form says {expected:?}")]
    Disagrees {
        /// `Name` or `Version`.
        field: &'static str,
        /// What the form says.
        expected: String,
        /// What the metadata says.
        found: String,
    },
}

/// The fields that we read; each may occur once.
const FIELDS: [&str; 8] =
    [":action", "protocol_version", "name", "version", "filetype", "md5_digest", "sha256_digest", "blake2_256_digest"];

/// Collects the fields as they arrive.
#[derive(Debug, Default)]
pub struct FormFields {
    values: [Option<String>; FIELDS.len()],
    has_content: bool,
    file_name: Option<String>,
}

/// A form whose fields follow the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadForm {
    pub project: ProjectName,
    /// The version as the form spells it.
    pub version: VersionSegment,
    pub file: FileName,
    /// Never [`FileKind::Other`].
    pub kind: FileKind,
    /// The digests of the form, by the names of their fields, in lower-case hexadecimal.
    pub digests: Vec<(&'static str, String)>,
    /// The fields that were read and checked, digests aside, as the publisher spelled them.
    pub fields: Vec<(&'static str, String)>,
}

/// The digests of the bytes that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigests {
    pub sha256: Sha256,
    /// In lower-case hexadecimal.
    pub md5: String,
    /// In lower-case hexadecimal.
    pub blake2b_256: String,
}

impl FormFields {
    /// Whether we read the value of this field; an error if another parser could take it for one that we read.
    pub fn wants(name: &str) -> Result<bool, FormError> {
        let alike = |known: &&str| name.trim().eq_ignore_ascii_case(known);
        match FIELDS.iter().chain(&["content"]).find(|known| alike(known)) {
            Some(known) if *known == name => Ok(name != "content"),
            Some(_) if sabotaged("alike-field") => Ok(false),
            Some(known) => Err(FormError::Alike(excerpt(name), known)),
            None => Ok(false),
        }
    }

    /// The project, as soon as its name has arrived, if it is one.
    pub fn project(&self) -> Option<ProjectName> {
        ProjectName::parse(self.get("name")?).ok()
    }

    /// The version, as soon as it has arrived, if it is one.
    pub fn version(&self) -> Option<VersionSegment> {
        VersionSegment::parse(self.get("version")?).ok()
    }

    /// The name of the file, as soon as it has arrived, if it is one.
    pub fn file(&self) -> Option<FileName> {
        FileName::parse(self.file_name.as_deref()?).ok()
    }

    /// Stores the value of a field; ignores fields that we do not read.
    pub fn put(&mut self, name: &str, value: Vec<u8>) -> Result<(), FormError> {
        let Some(position) = FIELDS.iter().position(|known| *known == name) else { return Ok(()) };
        let value = String::from_utf8(value).map_err(|_| FormError::Encoding(FIELDS[position]))?;
        match &self.values[position] {
            Some(said) if *said != value && !sabotaged("field-twice") => {
                return Err(FormError::Twice(FIELDS[position]));
            }
            _ => self.values[position] = Some(value),
        }
        Ok(())
    }

    /// Notes that the part `content` has begun.
    pub fn content(&mut self, file_name: Option<String>) -> Result<(), FormError> {
        if std::mem::replace(&mut self.has_content, true) {
            return Err(FormError::Twice("content"));
        }
        self.file_name = file_name;
        Ok(())
    }

    fn get(&self, name: &'static str) -> Option<&str> {
        let position = FIELDS.iter().position(|known| *known == name)?;
        let value = self.values[position].as_deref()?.trim();
        (!PLACEHOLDERS.contains(&value)).then_some(value)
    }

    fn require(&self, name: &'static str) -> Result<&str, FormError> {
        self.get(name).ok_or(FormError::Missing(name))
    }

    /// Checks the fields once all of them have arrived.
    pub fn check(&self) -> Result<UploadForm, FormError> {
        let action = self.require(":action")?;
        if action != "file_upload" {
            return Err(FormError::Action(excerpt(action)));
        }
        if let Some(other) = self.get("protocol_version").filter(|version| *version != "1") {
            return Err(FormError::Protocol(excerpt(other)));
        }
        let name = self.require("name")?;
        let project = ProjectName::parse(name).map_err(|error| FormError::Project(excerpt(name), error))?;
        let version = self.require("version")?;
        let segment = VersionSegment::parse(version).map_err(|error| FormError::Version(excerpt(version), error))?;
        if !self.has_content {
            return Err(FormError::Missing("content"));
        }
        let raw = self.file_name.as_deref().filter(|raw| !raw.is_empty()).ok_or(FormError::NoFileName)?;
        let file = FileName::parse(raw).map_err(|error| FormError::FileName(excerpt(raw), error))?;
        let kind = file.kind();
        let filetype = self.require("filetype")?;
        match (kind, filetype) {
            (FileKind::Wheel, "bdist_wheel") | (FileKind::Sdist, "sdist") => {}
            (FileKind::Other, _) => return Err(FormError::Format(file)),
            _ => return Err(FormError::FileType { said: excerpt(filetype), file }),
        }
        if !belongs(&file, &project, version) && !sabotaged("other-file") {
            return Err(FormError::OtherFile { file, project, version: version.to_owned() });
        }
        let digests: Vec<_> = ["sha256_digest", "blake2_256_digest", "md5_digest"]
            .into_iter()
            .filter_map(|name| Some((name, self.get(name)?.to_ascii_lowercase())))
            .collect();
        if digests.is_empty() {
            return Err(FormError::NoDigest);
        }
        let fields = FIELDS.into_iter().filter(|name| !name.ends_with("_digest"));
        let fields = fields.filter_map(|name| Some((name, self.get(name)?.to_owned()))).collect();
        Ok(UploadForm { project, version: segment, file, kind, digests, fields })
    }
}

/// Whether a file name is for this version of this project. An old name of a source distribution can be split in more
/// than one way; one that fits is enough.
fn belongs(file: &FileName, project: &ProjectName, version: &str) -> bool {
    let version = VersionKey::of(version);
    let fits = |name: &str, number: &str| {
        ProjectName::parse(name).is_ok_and(|name| name == *project) && VersionKey::of(number) == version
    };
    if file.kind() == FileKind::Wheel {
        return file.distribution().is_some_and(|found| fits(found.project.as_str(), &found.version));
    }
    let Some(stem) = file.stem() else { return false };
    stem.match_indices('-').any(|(at, _)| fits(&stem[..at], &stem[at + 1..]))
}

/// A 512-bit digest in the field for 256 bits, as one old tool writes it.
fn is_overlong(name: &str, digest: &str) -> bool {
    name == "blake2_256_digest" && digest.len() == 128
}

impl UploadForm {
    /// The beginning of the form for the repository: every field that was read, once, in one order. A digest that was
    /// not compared is left out.
    pub fn write(&self, writer: &FormWriter) -> Vec<u8> {
        let digests = self.digests.iter().filter(|(name, said)| !is_overlong(name, said));
        self.fields.iter().chain(digests).flat_map(|(name, value)| writer.field(name, value)).collect()
    }

    /// Compares the digests of the form with those of the bytes.
    ///
    /// A digest that is too long for its field is ignored if another one vouches for the bytes.
    pub fn check_digests(&self, found: &ContentDigests) -> Result<(), FormError> {
        let mut vouched = false;
        for (name, said) in &self.digests {
            let expected = match *name {
                "sha256_digest" => &found.sha256.to_string(),
                "md5_digest" => &found.md5,
                name if is_overlong(name, said) => continue,
                _ => &found.blake2b_256,
            };
            if said != expected {
                return Err(FormError::Digest(name));
            }
            vouched = true;
        }
        if vouched { Ok(()) } else { Err(FormError::NoDigest) }
    }

    /// Opens the file, compares its own metadata with the form, and returns the bytes of the metadata. Blocking.
    pub fn check_content(&self, content: impl ReadAt) -> Result<Vec<u8>, FormError> {
        let metadata = match self.kind {
            FileKind::Wheel => wheel::core_metadata(content, &self.file)?,
            FileKind::Sdist | FileKind::Other => sdist::core_metadata(content, &self.file)?,
        };
        let CoreFields { name, version, .. } = wheel::metadata_headers(&metadata);
        let (name, version) = (name.unwrap_or_default(), version.unwrap_or_default());
        let disagrees =
            |field, expected: &str, found| FormError::Disagrees { field, expected: expected.to_owned(), found };
        if ProjectName::parse(&name).ok().as_ref() != Some(&self.project) && !sabotaged("metadata-name") {
            return Err(disagrees("Name", self.project.as_str(), excerpt(&name)));
        }
        if VersionKey::of(&version) != VersionKey::of(self.version.as_str()) {
            return Err(disagrees("Version", self.version.as_str(), excerpt(&version)));
        }
        Ok(metadata)
    }
}

/// A bounded, printable copy of what a publisher sent.
#[cfg(test)]
mod tests {
    use crate::*;

    const GOOD: [(&str, &str); 6] = [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("name", "My.Pkg"),
        ("version", "1.0"),
        ("filetype", "bdist_wheel"),
        ("sha256_digest", "AB"),
    ];

    fn form(changes: &[(&str, &str)], file: Option<&str>) -> Result<UploadForm, FormError> {
        let mut fields = FormFields::default();
        for (name, value) in GOOD {
            let value = changes.iter().find(|(changed, _)| *changed == name).map_or(value, |(_, value)| value);
            fields.put(name, value.as_bytes().to_vec())?;
        }
        for (name, value) in changes.iter().filter(|(name, _)| GOOD.iter().all(|(known, _)| known != name)) {
            fields.put(name, value.as_bytes().to_vec())?;
        }
        fields.content(file.map(str::to_owned))?;
        fields.check()
    }

    #[test]
    fn a_good_form_says_what_is_published() {
        let read = form(&[("classifiers", "a")], Some("my_pkg-1.0-py3-none-any.whl")).expect("a good form");
        assert_eq!((read.project.as_str(), read.version.as_str()), ("my-pkg", "1.0"));
        assert_eq!((read.kind, &read.digests), (FileKind::Wheel, &vec![("sha256_digest", "ab".to_owned())]));
    }

    #[test]
    fn what_was_read_is_written_once_and_in_one_order() {
        let changes = [("protocol_version", ""), ("sha256_digest", " AB "), ("blake2_256_digest", &"0".repeat(128))];
        let read = form(&changes, Some("my_pkg-1.0-py3-none-any.whl")).expect("a good form");
        let writer = FormWriter::new(1);
        let fields = [
            (":action", "file_upload"),
            ("name", "My.Pkg"),
            ("version", "1.0"),
            ("filetype", "bdist_wheel"),
            ("sha256_digest", "ab"),
        ];
        let expected: Vec<u8> = fields.iter().flat_map(|(name, value)| writer.field(name, value)).collect();
        assert_eq!(read.write(&writer), expected);
    }

    #[test]
    fn a_name_like_that_of_a_field_we_read_is_refused() {
        assert!(matches!(FormFields::wants("version"), Ok(true)));
        assert!(matches!(FormFields::wants("requires_dist"), Ok(false)));
        for name in ["Version", " version", "VERSION ", "Content", "content ", "SHA256_digest"] {
            assert!(matches!(FormFields::wants(name), Err(FormError::Alike(..))), "{name}");
        }
    }

    #[test]
    fn names_are_compared_after_normalisation() {
        for (version, filetype, file) in [
            ("1.0", "sdist", "my_pkg-1.0.tar.gz"),
            ("1.0", "sdist", "My.Pkg-1.0.tar.gz"),
            ("1.0.0", "sdist", "my-pkg-1.0.zip"),
            ("1.0.post1", "sdist", "my-pkg-1.0-1.tar.gz"),
            ("1.0+Local.1", "bdist_wheel", "my_pkg-1.0+local_1-py3-none-any.whl"),
            ("1.0", "bdist_wheel", "My.Pkg-1-2build-py3-none-any.whl"),
        ] {
            let read = form(&[("version", version), ("filetype", filetype)], Some(file));
            assert!(read.is_ok(), "{file}: {read:?}");
        }
    }

    #[test]
    fn every_rule_names_what_is_wrong() {
        let wheel = Some("my_pkg-1.0-py3-none-any.whl");
        for (changes, file, part) in [
            (&[("name", "UNKNOWN")][..], wheel, "no field 'name'"),
            (&[("version", " ")], wheel, "no field 'version'"),
            (&[("filetype", "")], wheel, "no field 'filetype'"),
            (&[("sha256_digest", "None")], wheel, "no digest"),
            (&[(":action", "submit")], wheel, "needs no registration"),
            (&[("protocol_version", "2")], wheel, "only 1 is supported"),
            (&[("name", "../x")], wheel, "project name '../x'"),
            (&[("version", "1/0")], wheel, "version '1/0'"),
            (&[], None, "no file name"),
            (&[], Some("../my_pkg-1.0-py3-none-any.whl"), "not valid"),
            (&[], Some("sub\\my_pkg-1.0-py3-none-any.whl"), "not valid"),
            (&[], Some("my_pkg-1.0.exe"), "neither a wheel"),
            (&[], Some("my_pkg-1.0.tar.gz"), "says otherwise"),
            (&[("filetype", "bdist_egg")], wheel, "says otherwise"),
            (&[], Some("other-1.0-py3-none-any.whl"), "does not belong"),
            (&[], Some("my_pkg-2.0-py3-none-any.whl"), "does not belong"),
            (&[], Some("my_pkg-1.0.whl"), "does not belong"),
            (&[("filetype", "sdist")], Some("my-pkg-extra-1.0.tar.gz"), "does not belong"),
        ] {
            let refused = form(changes, file).expect_err(part).to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn a_field_that_decides_something_has_one_value() {
        let mut fields = FormFields::default();
        fields.put("name", b"a".to_vec()).expect("the first");
        fields.put("classifiers", b"a".to_vec()).expect("anything");
        fields.put("classifiers", b"b".to_vec()).expect("anything");
        fields.put("name", b"a".to_vec()).expect("the same again");
        assert!(matches!(fields.put("name", b"A".to_vec()), Err(FormError::Twice("name"))));
        fields.content(None).expect("the first");
        assert!(matches!(fields.content(None), Err(FormError::Twice("content"))));
        assert!(matches!(fields.put("version", vec![0xff]), Err(FormError::Encoding("version"))));
    }

    #[test]
    fn one_wrong_digest_is_enough() {
        let found = ContentDigests { sha256: Sha256::of(b"x"), md5: "0".repeat(32), blake2b_256: "1".repeat(64) };
        let check = |digests: &[(&'static str, String)]| {
            let file = Some("my_pkg-1.0-py3-none-any.whl");
            let form = UploadForm { digests: digests.to_vec(), ..form(&[], file).expect("a good form") };
            form.check_digests(&found).map_err(|error| error.to_string())
        };
        let sha256 = ("sha256_digest", found.sha256.to_string());
        assert_eq!(check(std::slice::from_ref(&sha256)), Ok(()));
        assert_eq!(check(&[sha256.clone(), ("blake2_256_digest", "7".repeat(128))]), Ok(()));
        assert!(check(&[("blake2_256_digest", "7".repeat(128))]).is_err());
        for (name, value) in
            [("md5_digest", "2".repeat(32)), ("blake2_256_digest", "0".repeat(64)), ("sha256_digest", "0".repeat(64))]
        {
            let refused = check(&[("md5_digest", "0".repeat(32)), (name, value)]);
            assert!(refused.is_err_and(|text| text.contains(name)), "{name}");
        }
    }
}
