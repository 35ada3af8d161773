//! All advisories in a compact form, found by project, and by id. Pure.
//!
//! Names, ids and versions lie in one text each, and everything else is a number: an advisory takes about a hundred
//! bytes, whatever its document says.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::affected::AffectedVersions;
use super::document::{AdvisoryKind, OsvDocument};
use wheelport_index::{ProjectName, Sha256};

/// Where the document of an advisory is in the copy: position and length, in bytes.
pub(super) type Place = (u32, u32);

/// What is known of all advisories.
#[derive(Clone, Default)]
pub struct AdvisoryTable {
    texts: Box<str>,
    /// In the order of their ids.
    advisories: Box<[Entry]>,
    /// In the order of their names.
    projects: Box<[Project]>,
    /// By project; malware comes first.
    facts: Box<[Fact]>,
    /// Of all documents, whatever their order.
    digest: [u8; 32],
    malware: u32,
}

/// A part of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TextSpan {
    at: u32,
    length: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: TextSpan,
    kind: AdvisoryKind,
    position: u32,
    length: u32,
    /// When it was last changed, in seconds since the epoch; 0 where that is not known.
    modified: u32,
}

#[derive(Debug, Clone, Copy)]
struct Project {
    name: TextSpan,
    /// The first of its facts; the last is before the first of the next project.
    facts: u32,
    /// How many of them are malware.
    malware: u32,
}

#[derive(Debug, Clone, Copy)]
struct Fact {
    advisory: u32,
    versions: TextSpan,
}

/// An advisory that makes versions malware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malware {
    pub id: Arc<str>,
    pub versions: AffectedVersions,
}

/// An advisory that is about a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvisoryRef<'a> {
    pub id: &'a str,
    pub kind: AdvisoryKind,
    /// When it was last changed, in seconds since the epoch; 0 where that is not known.
    pub modified: u32,
    pub versions: AffectedVersions,
}

impl AdvisoryTable {
    /// How many advisories there are.
    pub fn len(&self) -> usize {
        self.advisories.len()
    }

    pub fn is_empty(&self) -> bool {
        self.advisories.is_empty()
    }

    /// How many of them are about malware.
    pub fn malware(&self) -> usize {
        self.malware as usize
    }

    /// The same for the same documents, whatever their order.
    pub fn digest(&self) -> Sha256 {
        Sha256(self.digest)
    }

    /// What it takes of memory, in bytes.
    pub fn weight(&self) -> usize {
        self.texts.len() + size_of_val(&*self.advisories) + size_of_val(&*self.projects) + size_of_val(&*self.facts)
    }

    /// What makes versions of a project malware.
    pub fn malware_of(&self, project: &ProjectName) -> Vec<Malware> {
        let Some((facts, malware)) = self.facts_of(project) else { return Vec::new() };
        let read = |fact: &Fact| Malware {
            id: self.text(self.entry(fact).id).into(),
            versions: AffectedVersions::read(self.text(fact.versions)),
        };
        facts[..malware].iter().map(read).collect()
    }

    /// All advisories about a project.
    pub fn of_project(&self, project: &ProjectName) -> Vec<AdvisoryRef<'_>> {
        let facts = self.facts_of(project).map(|(facts, _)| facts).unwrap_or_default();
        facts.iter().map(|fact| self.refer(fact)).collect()
    }

    /// What is known of this id: its kind, and where its document is in the copy.
    pub(super) fn place(&self, id: &str) -> Option<Place> {
        self.find(id).map(|entry| (entry.position, entry.length))
    }

    /// The kind of the advisory with this id.
    pub fn kind(&self, id: &str) -> Option<AdvisoryKind> {
        self.find(id).map(|entry| entry.kind)
    }

    fn find(&self, id: &str) -> Option<&Entry> {
        let at = self.advisories.binary_search_by(|entry| self.text(entry.id).cmp(id)).ok()?;
        self.advisories.get(at)
    }

    fn refer(&self, fact: &Fact) -> AdvisoryRef<'_> {
        let entry = self.entry(fact);
        let versions = AffectedVersions::read(self.text(fact.versions));
        AdvisoryRef { id: self.text(entry.id), kind: entry.kind, modified: entry.modified, versions }
    }

    fn entry(&self, fact: &Fact) -> &Entry {
        &self.advisories[fact.advisory as usize]
    }

    /// The facts of a project, and how many of them are malware.
    fn facts_of(&self, project: &ProjectName) -> Option<(&[Fact], usize)> {
        let name = project.as_str();
        let at = self.projects.binary_search_by(|project| self.text(project.name).cmp(name)).ok()?;
        let found = self.projects[at];
        let end = self.projects.get(at + 1).map_or(self.facts.len(), |next| next.facts as usize);
        Some((&self.facts[found.facts as usize..end], found.malware as usize))
    }

    fn text(&self, span: TextSpan) -> &str {
        let at = span.at as usize;
        self.texts.get(at..at + span.length as usize).unwrap_or_default()
    }
}

impl fmt::Debug for AdvisoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvisoryTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Gathers advisories as they are read.
#[derive(Default)]
pub struct TableBuilder {
    /// By id; of two with one id the last counts.
    documents: BTreeMap<String, Gathered>,
    texts: Texts,
}

struct Gathered {
    kind: AdvisoryKind,
    modified: u32,
    place: Place,
    digest: [u8; 32],
    affected: Vec<(ProjectName, TextSpan)>,
}

/// Texts that are each held once.
#[derive(Default)]
struct Texts {
    all: String,
    known: HashMap<Box<str>, TextSpan>,
}

impl Texts {
    fn add(&mut self, text: &str) -> TextSpan {
        if let Some(span) = self.known.get(text) {
            return *span;
        }
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let span = TextSpan { at: number(self.all.len()), length: number(text.len()) };
        self.all.push_str(text);
        self.known.insert(text.into(), span);
        span
    }
}

impl TableBuilder {
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Takes in an advisory, whose document is at this place of the copy and has this digest.
    pub(super) fn add(&mut self, document: OsvDocument, place: Place, digest: Sha256) {
        let OsvDocument { id, kind, modified, affected } = document;
        let texts = &mut self.texts;
        let affected = affected.into_iter().map(|(project, versions)| (project, texts.add(&versions.written())));
        let gathered = Gathered { kind, modified, place, digest: digest.0, affected: affected.collect() };
        self.documents.insert(id, gathered);
    }

    pub fn build(mut self) -> AdvisoryTable {
        let mut advisories = Vec::with_capacity(self.documents.len());
        let mut by_project: BTreeMap<ProjectName, Vec<Fact>> = BTreeMap::new();
        let (mut digest, mut malware) = ([0; 32], 0);
        for (id, Gathered { kind, modified, place: (position, length), digest: of_document, affected }) in
            self.documents
        {
            let advisory = u32::try_from(advisories.len()).unwrap_or(u32::MAX);
            advisories.push(Entry { id: self.texts.add(&id), kind, position, length, modified });
            malware += u32::from(kind == AdvisoryKind::Malware);
            for (all, one) in digest.iter_mut().zip(of_document) {
                *all ^= one;
            }
            for (project, versions) in affected {
                by_project.entry(project).or_default().push(Fact { advisory, versions });
            }
        }
        let (mut projects, mut facts) = (Vec::with_capacity(by_project.len()), Vec::new());
        for (project, mut of_project) in by_project {
            let is_malware = |fact: &Fact| advisories[fact.advisory as usize].kind == AdvisoryKind::Malware;
            of_project.sort_by_key(|fact| !is_malware(fact));
            let malware = of_project.iter().filter(|fact| is_malware(fact)).count();
            let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let name = self.texts.add(project.as_str());
            projects.push(Project { name, facts: number(facts.len()), malware: number(malware) });
            facts.append(&mut of_project);
        }
        AdvisoryTable {
            texts: self.texts.all.into(),
            advisories: advisories.into(),
            projects: projects.into(),
            facts: facts.into(),
            digest,
            malware,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(documents: &[serde_json::Value]) -> AdvisoryTable {
        let mut builder = TableBuilder::default();
        for (position, document) in (0..).zip(documents) {
            let text = document.to_string();
            let parsed = OsvDocument::parse(text.as_bytes()).expect("a document");
            builder.add(parsed, (position, 1), Sha256::of(text.as_bytes()));
        }
        builder.build()
    }

    fn document(id: &str, projects: &[&str], version: &str) -> serde_json::Value {
        let affected = projects
            .iter()
            .map(|project| json!({"package": {"ecosystem": "PyPI", "name": project}, "versions": [version]}));
        json!({"id": id, "affected": affected.collect::<Vec<_>>()})
    }

    fn ids(table: &AdvisoryTable, project: &str) -> Vec<String> {
        let project = ProjectName::parse(project).expect("a name");
        table.of_project(&project).iter().map(|found| found.id.to_owned()).collect()
    }

    #[test]
    fn advisories_are_found_by_project_with_malware_first_and_by_id() {
        let all = [
            document("GHSA-1", &["b", "a"], "1.0"),
            document("MAL-2", &["B"], "2.0"),
            document("PYSEC-3", &["c"], "1.0"),
        ];
        let found = table(&all);
        assert_eq!((found.len(), found.malware()), (3, 1));
        assert_eq!(ids(&found, "a"), ["GHSA-1"]);
        assert_eq!(ids(&found, "b"), ["MAL-2", "GHSA-1"]);
        assert_eq!(ids(&found, "aa"), [""; 0]);
        let malware = found.malware_of(&ProjectName::parse("b").expect("a name"));
        assert_eq!(malware.iter().map(|malware| &*malware.id).collect::<Vec<_>>(), ["MAL-2"]);
        assert!(malware[0].versions.contains_text("2.0") && !malware[0].versions.contains_text("1.0"));
        assert_eq!(found.place("MAL-2"), Some((1, 1)));
        assert_eq!(found.kind("PYSEC-3"), Some(AdvisoryKind::Vulnerability));
        assert_eq!(found.place("MAL-3"), None);
        let reversed = table(&[all[2].clone(), all[1].clone(), all[0].clone()]);
        assert_eq!(reversed.digest(), found.digest());
        assert_ne!(table(&all[..2]).digest(), found.digest());
    }

    #[test]
    fn twenty_five_thousand_advisories_take_a_few_megabytes() {
        let documents: Vec<_> = (0..25_000)
            .map(|number| {
                let (kind, project) = (["MAL-2025", "GHSA-xxxx", "PYSEC-2025"][number % 3], number % 14_000);
                let fixed = json!({"fixed": format!("2.{number}")});
                let versions: Vec<_> = (0..number % 40).map(|minor| format!("1.{minor}.{}", number % 7)).collect();
                json!({"id": format!("{kind}-{number}"), "affected": [{
                    "package": {"ecosystem": "PyPI", "name": format!("some-longer-project-{project}")},
                    "versions": versions,
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, fixed]}],
                }]})
            })
            .collect();
        let found = table(&documents);
        println!("{} advisories take {} bytes", found.len(), found.weight());
        assert!(found.weight() < 3 << 20, "{} bytes", found.weight());
    }
}
