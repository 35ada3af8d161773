//! Wheels as they should be, and as they should not.

use super::*;
use crate::archive::tests::{Part, archive};

const WHEEL: &str = "Friendly_Bard-1.0.0-py3-none-any.whl";
const METADATA: &[u8] = b"Metadata-Version: 2.1\r\nName: Friendly-Bard\r\nVersion: 1.0\r\n\r\nName: body\r\n";

fn wheel(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(&entries.iter().map(|(name, bytes)| Part::new(name, bytes)).collect::<Vec<_>>())
}

fn read(file: &[u8]) -> Result<Vec<u8>, WheelError> {
    core_metadata(file, &FileName::parse(WHEEL).expect("a valid name"))
}

#[test]
fn the_bytes_come_back_unmodified() {
    for directory in ["friendly_bard-1.0.0", "Friendly.Bard-1.0", "FRIENDLY_BARD-1.0.0"] {
        let path = format!("{directory}.dist-info/METADATA");
        let file = wheel(&[("friendly_bard/METADATA", b"x"), (&path, METADATA), ("a/b.dist-info/METADATA", b"x")]);
        assert_eq!(read(&file).expect("metadata"), METADATA, "{directory}");
    }
}

#[test]
fn a_single_directory_of_another_spelling_will_do_and_of_several_the_agreeing_one() {
    assert_eq!(read(&wheel(&[("odd.dist-info/METADATA", METADATA)])).expect("metadata"), METADATA);
    let two =
        wheel(&[("other-2.0.dist-info/METADATA", b"Name: other"), ("friendly_bard-1.0.dist-info/METADATA", METADATA)]);
    assert_eq!(read(&two).expect("metadata"), METADATA);
}

#[test]
fn an_ambiguous_wheel_is_an_error() {
    let two_spellings = wheel(&[
        ("friendly_bard-1.0.dist-info/METADATA", METADATA),
        ("Friendly_Bard-1.0.dist-info/METADATA", METADATA),
        ("friendly_bard-1.0.dist-info/METADATA", METADATA),
    ]);
    assert!(matches!(read(&two_spellings), Err(WheelError::Ambiguous)));
    let two_strangers = wheel(&[("a-1.dist-info/METADATA", METADATA), ("b-1.dist-info/METADATA", METADATA)]);
    assert!(matches!(read(&two_strangers), Err(WheelError::Ambiguous)));
    assert!(matches!(read(&wheel(&[("friendly_bard/METADATA", METADATA)])), Err(WheelError::Missing)));
    assert!(matches!(read(&wheel(&[])), Err(WheelError::Missing)));
    assert!(matches!(read(b"<html>"), Err(WheelError::Archive(_))));
    let sdist = FileName::parse("friendly-bard-1.0.tar.gz").expect("a valid name");
    assert!(matches!(core_metadata(&wheel(&[])[..], &sdist), Err(WheelError::NotAWheel(name)) if name == sdist));
}

#[test]
fn entries_that_occur_twice_do_not_matter_and_of_the_metadata_the_last_one_counts() {
    let path = "friendly_bard-1.0.dist-info/METADATA";
    let twice = wheel(&[
        ("friendly_bard/", b""),
        ("friendly_bard/__init__.py", b"A = 1"),
        ("friendly_bard/", b""),
        ("friendly_bard/__init__.py", b"A = 2"),
        ("friendly_bard-1.0.dist-info/", b""),
        (path, METADATA),
        ("friendly_bard-1.0.dist-info/", b""),
    ]);
    assert_eq!(read(&twice).expect("metadata"), METADATA);
    assert_eq!(read(&wheel(&[(path, METADATA), (path, METADATA)])).expect("metadata"), METADATA);
    assert_eq!(read(&wheel(&[(path, b"Name: first"), (path, METADATA)])).expect("metadata"), METADATA);
}

#[test]
fn metadata_of_something_else_goes_out_as_it_is() {
    for metadata in ["Name: other\nVersion: 1.0\n", "", "Name: friendly-bard\nVersion: 2.0\n", "\u{feff}\n\n"] {
        let file = wheel(&[("friendly_bard-1.0.dist-info/METADATA", metadata.as_bytes())]);
        assert_eq!(read(&file).expect("metadata"), metadata.as_bytes());
    }
}

#[test]
fn too_much_metadata_is_refused() {
    let large = vec![b' '; usize::try_from(MAX_METADATA).expect("it fits") + 1];
    let path = "friendly_bard-1.0.dist-info/METADATA";
    let refused = read(&wheel(&[(path, &large)]));
    assert!(matches!(refused, Err(WheelError::Archive(ArchiveError::TooLarge(MAX_METADATA)))));
    assert_eq!(read(&wheel(&[(path, &large[1..])])).expect("metadata"), large[1..]);
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
            ..CoreFields::default()
        }
    );
    assert_eq!(metadata_headers(b""), CoreFields::default());
    assert_eq!(metadata_headers(b" continued\n\xff\xfe: x\nName: a").name, some("a"));
}

#[test]
fn requirements_have_no_address_of_their_own_and_no_marker_but_that_of_a_platform() {
    let metadata =
        b"Name: x\nRequires-Dist: A.b (>=1,<2)\nRequires-Dist: c[extra]>=1\nRequires-Dist: d;python_version<'3'\n\
          Requires-Dist: e ; extra == 'x'\nRequires-Dist: f @ https://files.example.org/f.whl\nRequires-Dist: a_B!=3\n\
          Requires-Dist: -\nRequires-Dist: g\nRequires-Dist: h\n  >=2\nRequires-Dist: i; sys_platform != 'win32'\n\
          Requires-Dist: j>1 ; os_name == 'nt' and extra == 'x'\nRequires-Dist: k @ https://h/k.whl ; os_name == 'nt'\n\
          Requires-Dist: l;platform_system=='Darwin' and python_version < '3'\n\nRequires-Dist: body\n";
    let names = |of| requirements(metadata, of).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(RequiredBy::EveryInstallation), ["a-b", "c", "g", "h"]);
    assert_eq!(names(RequiredBy::AnyPlatform), ["a-b", "c", "g", "h", "i"]);
}

#[test]
fn metadata_that_requires_everything_is_not_read_to_its_end() {
    let many: Vec<_> = (0..1000).map(|number| format!("Requires-Dist: n{number}\n")).collect();
    assert_eq!(requirements(many.concat().as_bytes(), RequiredBy::EveryInstallation).len(), MAX_REQUIREMENTS);
    let padding = format!("Description: {}\n", "x".repeat(REQUIREMENTS_WITHIN - 50));
    let cut = format!("{padding}Requires-Dist: a\nRequires-Dist: b-longer-name\n");
    let names: Vec<_> =
        requirements(cut.as_bytes(), RequiredBy::EveryInstallation).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a"], "not a part of a name");
}

#[test]
fn the_end_tells_where_the_directory_is_and_the_directory_where_the_metadata_is() {
    let path = "friendly_bard-1.0.dist-info/METADATA";
    let file = wheel(&[("a.bin", &[7; 5000]), (path, METADATA), ("b.bin", &[8; 5000])]);
    let name = FileName::parse(WHEEL).expect("a valid name");
    let start = directory_start(&file[..]).expect("a directory");
    let at = usize::try_from(start).expect("a small file");
    assert!(file[at..].starts_with(b"PK\x01\x02"));
    // Nothing before the directory is read for that.
    let mut blank = vec![0; at];
    blank.extend_from_slice(&file[at..]);
    assert_eq!(directory_start(&blank[..]).expect("a directory"), start);
    let part = metadata_part(&blank[..], &name).expect("metadata");
    let (from, to) = (usize::try_from(part.start).expect("small"), usize::try_from(part.end).expect("small"));
    assert!(file[from..].starts_with(b"PK\x03\x04") && to - from < 1000);
    blank[from..to].copy_from_slice(&file[from..to]);
    assert_eq!(read(&blank).expect("metadata"), METADATA);
    assert!(metadata_part(&wheel(&[])[..], &name).is_err());
}

#[test]
fn a_description_is_behind_the_header_or_a_field_of_it() {
    for (metadata, expected) in [
        ("Name: a\nSummary: s\n\n# Title\n\ntext\n", "# Title\n\ntext"),
        ("Name: a\r\n\r\ntext\r\nmore\r\n", "text\nmore"),
        ("Name: a\nDescription: one\n        two\n          three\nAuthor: x\n", "one\ntwo\n  three"),
        ("Name: a\nDescription: one\n       |two\n       |\n       |  three\n\n", "one\ntwo\n\n  three"),
        ("Name: a\n\n\n", ""),
        ("Name: a", ""),
    ] {
        assert_eq!(description(metadata.as_bytes()), expected, "{metadata:?}");
    }
    let fields =
        metadata_headers(b"Author-email: A <a@b.example>\nProject-URL: Docs, https://d.example\nProject-URL: x\n");
    assert_eq!(fields.author_email.as_deref(), Some("A <a@b.example>"));
    assert_eq!(fields.project_urls, ["Docs, https://d.example", "x"]);
}
