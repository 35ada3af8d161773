//! Exports in all their forms, and those that are refused.

use serde_json::{Value, json};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;
use crate::advisories::CopyHeader;

fn document(id: &str) -> Value {
    json!({"id": id, "affected": [{"package": {"ecosystem": "PyPI", "name": "evil"}, "versions": ["1.0"]}]})
}

fn zipped(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, SimpleFileOptions::default()).expect("an entry");
        archive.write_all(bytes).expect("an entry");
    }
    archive.finish().expect("an archive").into_inner()
}

fn read_with(path: &Path, known: &AdvisoryTable) -> Result<(AdvisoryTable, usize), ExportError> {
    let mut copy = CopyWriter::new(Vec::new(), &CopyHeader::default())?;
    let unreadable = read_export(path, known, &mut copy)?;
    Ok((copy.finish()?.1, unreadable))
}

fn read_bytes(bytes: &[u8]) -> Result<(AdvisoryTable, usize), ExportError> {
    let root = TempDir::new()?;
    let path = root.path().join("export");
    fs::write(&path, bytes)?;
    read_with(&path, &AdvisoryTable::default())
}

fn entry(id: &str) -> (String, Vec<u8>) {
    (format!("{id}.json"), document(id).to_string().into_bytes())
}

#[test]
fn an_export_is_an_archive_a_directory_or_a_text() {
    let (one, other) = (entry("MAL-1"), entry("GHSA-2"));
    let archive = zipped(&[(&one.0, one.1.clone()), (&other.0, other.1.clone()), ("README", b"x".to_vec())]);
    let root = TempDir::new().expect("a directory");
    fs::create_dir_all(root.path().join("below")).expect("a directory");
    fs::write(root.path().join("below/MAL-1.json"), &one.1).expect("written");
    fs::write(root.path().join("GHSA-2.json"), &other.1).expect("written");
    fs::write(root.path().join("README"), "x").expect("written");
    let texts =
        [json!([document("MAL-1"), document("GHSA-2")]), json!({"vulns": [document("GHSA-2"), document("MAL-1")]})];
    let mut tables = vec![
        read_bytes(&archive).expect("an archive").0,
        read_with(root.path(), &AdvisoryTable::default()).expect("a directory").0,
    ];
    tables.extend(texts.iter().map(|text| read_bytes(text.to_string().as_bytes()).expect("a text").0));
    for table in &tables {
        assert_eq!((table.len(), table.malware()), (2, 1));
    }
    let single = read_bytes(document("MAL-1").to_string().as_bytes()).expect("a document").0;
    assert_eq!(single.len(), 1);
}

#[test]
fn what_is_broken_or_empty_is_refused_as_a_whole() {
    let whole = zipped(&[("MAL-1.json", document("MAL-1").to_string().into_bytes())]);
    for length in [0, 1, 2, 30, whole.len() / 2, whole.len() - 1] {
        assert!(read_bytes(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
    }
    let mut damaged = whole.clone();
    damaged[45] ^= 0x55;
    assert!(read_bytes(&damaged).is_err());
    for empty in [zipped(&[]), b"[]".to_vec(), br#"{"vulns": []}"#.to_vec(), zipped(&[("README", b"x".to_vec())])] {
        assert!(matches!(read_bytes(&empty), Err(ExportError::Empty)));
    }
    for text in ["<html>", "null", "7", "{\"message\": \"no\"}"] {
        assert!(read_bytes(text.as_bytes()).is_err(), "{text}");
    }
    assert!(read_with(Path::new("/nowhere/at/all"), &AdvisoryTable::default()).is_err());
}

#[test]
fn a_document_that_cannot_be_read_is_left_out_unless_it_is_malware_that_is_in_force() {
    let entries: Vec<_> = (0..200).map(|number| entry(&format!("MAL-{number}"))).collect();
    let with = |name: &str| {
        let all = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()));
        zipped(&all.filter(|(known, _)| *known != name).chain([(name, b"{\"id\":".to_vec())]).collect::<Vec<_>>())
    };
    let (known, unreadable) = read_bytes(&with("GHSA-1.json")).expect("an export");
    assert_eq!((known.len(), unreadable), (200, 1));
    let root = TempDir::new().expect("a directory");
    let path = root.path().join("export");
    fs::write(&path, with("MAL-7.json")).expect("written");
    assert!(matches!(read_with(&path, &known), Err(ExportError::LostMalware(id)) if id == "MAL-7"));
    let few = zipped(&[("MAL-1.json", document("MAL-1").to_string().into_bytes()), ("X.json", b"{".to_vec())]);
    assert!(matches!(read_bytes(&few), Err(ExportError::Unreadable { unreadable: 1, all: 2, .. })));
}

#[test]
fn a_document_and_their_number_have_limits() {
    let mut large = document("MAL-1");
    large["details"] = json!("x".repeat(usize::try_from(LARGEST_DOCUMENT).expect("a length")));
    let archive = zipped(&[("MAL-1.json", large.to_string().into_bytes())]);
    assert!(matches!(read_bytes(&archive), Err(ExportError::TooLarge(..))));
    let mut text = String::from("[");
    text.push_str(&vec![r#"{"id":"A-1"}"#; MOST_DOCUMENTS + 1].join(","));
    text.push(']');
    assert!(matches!(read_bytes(text.as_bytes()), Err(ExportError::TooMany)));
}
