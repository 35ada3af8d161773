//! Documents of advisories, their copy, and what clients ask of them. The files of `advisories` are compiled into this
//! crate, without the reader of archives.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

#[path = "../../src/advisories/affected.rs"]
mod affected;
#[path = "../../src/advisories/copy.rs"]
mod copy;
#[path = "../../src/advisories/document.rs"]
mod document;
#[path = "../../src/advisories/question.rs"]
mod question;
#[path = "../../src/advisories/settings.rs"]
mod settings;
#[path = "../../src/advisories/table.rs"]
mod table;

pub(crate) use affected::AffectedVersions;
pub(crate) use document::AdvisoryKind;
pub(crate) use question::InvalidQuestion;
pub(crate) use settings::AdvisorySettings;
pub(crate) use table::{AdvisoryTable, Malware};

use copy::{CopyHeader, CopyWriter, load};
use document::OsvDocument;
use question::{OsvQuestion, read_batch, read_question};

const LARGEST_DOCUMENT: u64 = 4 << 20;
const MOST_DOCUMENTS: usize = 65_534;
const LARGEST_UNPACKED: u64 = 2 << 30;

/// One byte for the kind: a document, a question, a batch of them, or a copy.
pub fn advisories(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => of_document(bytes),
        1 => {
            if let Ok(OsvQuestion::Project { project, version }) = read_question(bytes) {
                assert_eq!(wheelport_index::ProjectName::parse(project.as_str()).as_ref(), Ok(&project));
                assert!(version.is_none_or(|version| !version.is_empty()));
            }
        }
        2 => drop(read_batch(bytes)),
        _ => {
            let whole = [b"wheelport advisories 1\n{\"source\":\"\",\"made\":1}\n".as_slice(), bytes].concat();
            let _ = load(whole.as_slice());
        }
    }
}

/// What a document says comes back from the compact form and from the copy.
fn of_document(bytes: &[u8]) {
    let Ok(document) = OsvDocument::parse(bytes) else { return };
    assert!(document.kind != AdvisoryKind::Withdrawn || document.affected.is_empty());
    for (_, versions) in &document.affected {
        assert_eq!(AffectedVersions::read(&versions.written()), *versions);
        assert!(!versions.is_everything() || versions.contains_text("odd!"));
    }
    let (id, kind, affected) = (document.id.clone(), document.kind, document.affected.clone());
    let mut copy = CopyWriter::new(Vec::new(), &CopyHeader::default()).expect("memory takes everything");
    copy.add(document, bytes).expect("memory takes everything");
    let (copy, table) = copy.finish().expect("memory takes everything");
    let (_, again) = load(copy.as_slice()).expect("a copy of ours");
    assert_eq!((again.kind(&id), again.digest()), (Some(kind), table.digest()));
    for (project, versions) in affected {
        assert!(again.of_project(&project).iter().any(|found| found.id == id && found.versions == versions));
        assert_eq!(again.malware_of(&project).is_empty(), kind != AdvisoryKind::Malware);
    }
}
