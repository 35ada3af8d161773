//! Wheels as they should be, and as they should not.

use std::io::{Cursor, Write as _};

use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

const WHEEL: &str = "Friendly_Bard-1.0.0-py3-none-any.whl";
const METADATA: &[u8] = b"Metadata-Version: 2.1\r\nName: Friendly-Bard\r\nVersion: 1.0\r\n\r\nName: body\r\n";

fn wheel(entries: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
    packed(entries, CompressionMethod::Deflated)
}

fn packed(entries: &[(&str, &[u8])], method: CompressionMethod) -> Cursor<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).expect("a new entry");
        writer.write_all(bytes).expect("writing to memory");
    }
    writer.finish().expect("writing to memory")
}

fn read(file: Cursor<Vec<u8>>) -> Result<Vec<u8>, WheelError> {
    core_metadata(file, &FileName::parse(WHEEL).expect("a valid name"))
}

#[test]
fn the_bytes_come_back_unmodified() {
    for directory in ["friendly_bard-1.0.0", "Friendly.Bard-1.0", "FRIENDLY_BARD-1.0.0"] {
        let path = format!("{directory}.dist-info/METADATA");
        let file = wheel(&[("friendly_bard/METADATA", b"x"), (&path, METADATA), ("a/b.dist-info/METADATA", b"x")]);
        assert_eq!(read(file).expect("metadata"), METADATA, "{directory}");
    }
    let stored = packed(&[("friendly_bard-1.0.0.dist-info/METADATA", METADATA)], CompressionMethod::Stored);
    assert_eq!(read(stored).expect("metadata"), METADATA);
}

#[test]
fn a_single_directory_of_another_spelling_will_do_and_of_several_the_agreeing_one() {
    assert_eq!(read(wheel(&[("odd.dist-info/METADATA", METADATA)])).expect("metadata"), METADATA);
    let two =
        wheel(&[("other-2.0.dist-info/METADATA", b"Name: other"), ("friendly_bard-1.0.dist-info/METADATA", METADATA)]);
    assert_eq!(read(two).expect("metadata"), METADATA);
}

#[test]
fn an_ambiguous_wheel_is_an_error() {
    let two_spellings = wheel(&[
        ("friendly_bard-1.0.dist-info/METADATA", METADATA),
        ("Friendly_Bard-1.0.dist-info/METADATA", METADATA),
    ]);
    assert!(matches!(read(two_spellings), Err(WheelError::Ambiguous)));
    let two_strangers = wheel(&[("a-1.dist-info/METADATA", METADATA), ("b-1.dist-info/METADATA", METADATA)]);
    assert!(matches!(read(two_strangers), Err(WheelError::Ambiguous)));
    assert!(matches!(read(wheel(&[("friendly_bard/METADATA", METADATA)])), Err(WheelError::Missing)));
    assert!(matches!(read(wheel(&[])), Err(WheelError::Missing)));
    assert!(matches!(read(Cursor::new(b"<html>".to_vec())), Err(WheelError::Archive(_))));
    let sdist = FileName::parse("friendly-bard-1.0.tar.gz").expect("a valid name");
    assert!(matches!(core_metadata(wheel(&[]), &sdist), Err(WheelError::NotAWheel(name)) if name == sdist));
}

#[test]
fn two_entries_of_one_name_are_ambiguous() {
    // The writer refuses duplicates, so one name is patched into the other afterwards.
    let file = wheel(&[
        ("friendly_bard-1.0.dist-info/METADATA", METADATA),
        ("friendly_bard-1.0.dist-info/METADATB", METADATA),
    ]);
    let mut bytes = file.into_inner();
    let places: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, text)| *text == b"METADATB").map(|(at, _)| at).collect();
    assert_eq!(places.len(), 2, "local and central header");
    for at in places {
        bytes[at + 7] = b'A';
    }
    assert!(matches!(read(Cursor::new(bytes)), Err(WheelError::Ambiguous)));
}

#[test]
fn metadata_of_something_else_is_refused() {
    for (metadata, wrong) in [
        ("Name: other\nVersion: 1.0\n", "Name"),
        ("Version: 1.0\n", "Name"),
        ("", "Name"),
        ("Name: friendly-bard\nVersion: 2.0\n", "Version"),
        ("Name: friendly-bard\n", "Version"),
        ("Name: friendly-bard\n\nVersion: 1.0\n", "Version"),
        ("Name: other\nName: friendly-bard\nVersion: 1.0\n", "Name"),
    ] {
        let file = wheel(&[("friendly_bard-1.0.dist-info/METADATA", metadata.as_bytes())]);
        assert!(matches!(read(file), Err(WheelError::Disagrees { field, .. }) if field == wrong), "{metadata}");
    }
}

#[test]
fn bombs_and_damage_are_refused() {
    let bomb = vec![b' '; 4 * 1024 * 1024];
    assert!(matches!(read(wheel(&[("friendly_bard-1.0.dist-info/METADATA", &bomb)])), Err(WheelError::TooLarge)));
    let large = vec![b' '; usize::try_from(MAX_METADATA).expect("it fits") + 1];
    let stored = packed(&[("friendly_bard-1.0.dist-info/METADATA", &large)], CompressionMethod::Stored);
    assert!(matches!(read(stored), Err(WheelError::TooLarge)));

    let path = "friendly_bard-1.0.dist-info/METADATA";
    let mut damaged = packed(&[(path, METADATA)], CompressionMethod::Stored).into_inner();
    let at = damaged.windows(4).position(|text| text == b"Bard").expect("it is stored as it is");
    damaged[at] = b'b';
    assert!(matches!(read(Cursor::new(damaged)), Err(WheelError::Archive(_))), "the checksum does not fit");
    let complete = wheel(&[(path, METADATA)]).into_inner();
    assert!(matches!(read(Cursor::new(complete[..complete.len() - 9].to_vec())), Err(WheelError::Archive(_))));

    let mut encrypted = wheel(&[(path, METADATA)]).into_inner();
    for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let at = encrypted.windows(4).position(|text| text == signature).expect("a header");
        encrypted[at + flags] |= 1;
    }
    assert!(matches!(read(Cursor::new(encrypted)), Err(WheelError::Encrypted)));
}

#[test]
fn header_fields_are_read_up_to_the_empty_line() {
    let fields = metadata_headers(
        b"Metadata-Version: 2.4\nname: First\nName: second\nVersion:1.0\nSummary: one\n  two\r\n\tthree\n\
          nonsense\n more\nRequires-Python: >=3.8\nRequires-Dist: a; extra == \"x\"\nRequires-Dist: b\n\
          Provides-Extra: x\nLicense: MIT\nImport-Name: later\nHome-page: https://example.org/\n\
          License-Expression: MIT\n\nName: body\nRequires-Dist: c\n",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        fields,
        CoreFields {
            metadata_version: some("2.4"),
            name: some("First"),
            version: some("1.0"),
            summary: some("one\ntwo\nthree"),
            home_page: some("https://example.org/"),
            license_expression: some("MIT"),
            license: some("MIT"),
            requires_python: some(">=3.8"),
            requires_dist: vec!["a; extra == \"x\"".to_owned(), "b".to_owned()],
            provides_extra: vec!["x".to_owned()],
        }
    );
    assert_eq!(metadata_headers(b""), CoreFields::default());
    assert_eq!(metadata_headers(b" continued\n\xff\xfe: x\nName: a").name, some("a"));
}

#[test]
fn an_unconditional_requirement_has_no_marker_and_no_address_of_its_own() {
    let required = unconditional_requirements(
        b"Name: x\nRequires-Dist: A.b (>=1,<2)\nRequires-Dist: c[extra]>=1\nRequires-Dist: d;python_version<'3'\n\
          Requires-Dist: e ; extra == 'x'\nRequires-Dist: f @ https://files.example.org/f.whl\nRequires-Dist: a_B!=3\n\
          Requires-Dist: -\nRequires-Dist: g\nRequires-Dist: h\n  >=2\n\nRequires-Dist: body\n",
    );
    let names: Vec<_> = required.iter().map(ProjectName::as_str).collect();
    assert_eq!(names, ["a-b", "c", "g", "h"]);
}

#[test]
fn metadata_that_requires_everything_is_not_read_to_its_end() {
    let many: Vec<_> = (0..1000).map(|number| format!("Requires-Dist: n{number}\n")).collect();
    assert_eq!(unconditional_requirements(many.concat().as_bytes()).len(), MAX_REQUIREMENTS);
    let padding = format!("Description: {}\n", "x".repeat(REQUIREMENTS_WITHIN - 50));
    let cut = format!("{padding}Requires-Dist: a\nRequires-Dist: b-longer-name\n");
    let names: Vec<_> = unconditional_requirements(cut.as_bytes()).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a"], "not a part of a name");
}
