//! Which of a project's rules may be about a file, found by its digest and its versions. Pure.
//!
//! Rules may name a thousand digests and versions of one project, and its page may list thousands of files. What names
//! a digest or one version is looked up, and what is for one kind of files is not looked at for another, so that the
//! work does not grow with the product of the two.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use foldhash::quality::RandomState;
use pep440_rs::Version;

use super::facts::NamedVersions;
use super::rules::{Exemption, ProjectRules, Rule};
use super::tables::VersionRange;
use crate::advisories::Malware;
use wheelport_index::{FileKind, Sha256};

/// The rules of a project, to be found for each of its files.
#[derive(Debug)]
pub struct RulesByFile<'a> {
    rules: Finder<'a, Rule>,
    exceptions: Finder<'a, Exemption>,
    is_private: bool,
    malware: Vec<Malware>,
    /// What may be about a file of each kind of which nothing is named, if that is the same for every version.
    unnamed: Option<OfKind<ProjectRules<'a>>>,
}

/// One for each [`FileKind`].
pub type OfKind<T> = [T; 3];

const KINDS: OfKind<FileKind> = [FileKind::Wheel, FileKind::Sdist, FileKind::Other];

/// Things in their order, with the positions of those that name a digest, of those that name one version, and of the
/// others that are for a kind of files.
#[derive(Debug)]
struct Finder<'a, T> {
    things: Vec<&'a T>,
    of_digest: HashMap<Sha256, Vec<usize>, RandomState>,
    of_version: HashMap<&'a Version, Vec<usize>, RandomState>,
    others: OfKind<Vec<usize>>,
}

impl<'a, T> Finder<'a, T> {
    fn new(
        things: Vec<&'a T>,
        digests: impl Fn(&'a T) -> Option<&'a HashSet<Sha256>>,
        versions: impl Fn(&'a T) -> Option<&'a VersionRange>,
        is_for: impl Fn(&'a T, FileKind) -> bool,
    ) -> Self {
        let mut finder = Self {
            things: Vec::new(),
            of_digest: HashMap::default(),
            of_version: HashMap::default(),
            others: OfKind::default(),
        };
        for (position, thing) in things.iter().copied().enumerate() {
            match (digests(thing), versions(thing).and_then(VersionRange::exact)) {
                (Some(digests), _) => {
                    for digest in digests {
                        finder.of_digest.entry(*digest).or_default().push(position);
                    }
                }
                (None, Some(version)) => finder.of_version.entry(version).or_default().push(position),
                (None, None) => {
                    for kind in KINDS.into_iter().filter(|kind| is_for(thing, *kind)) {
                        finder.others[kind as usize].push(position);
                    }
                }
            }
        }
        Self { things, ..finder }
    }

    /// The positions of those that name the digest, or one of the versions.
    fn named(&self, versions: &NamedVersions, sha256: Option<Sha256>) -> impl Iterator<Item = &Vec<usize>> {
        // One public version stands for all its local ones.
        let of_version = versions.iter().filter_map(|version| match version.local() {
            [] => self.of_version.get(version),
            _ => self.of_version.get(&version.clone().without_local()),
        });
        of_version.chain(sha256.and_then(|sha256| self.of_digest.get(&sha256)))
    }

    /// What may be about a file of these versions, this digest and this kind, in order.
    fn find(&self, versions: &NamedVersions, sha256: Option<Sha256>, kind: FileKind) -> impl Iterator<Item = &'a T> {
        let named = self.named(versions, sha256);
        let mut found: Vec<usize> = named.chain([&self.others[kind as usize]]).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|position| self.things[position])
    }

    /// What names neither a digest nor one version; `None` if it depends on the version all the same.
    fn unnamed(&self, kind: FileKind, versions: impl Fn(&'a T) -> Option<&'a VersionRange>) -> Option<Vec<&'a T>> {
        let others = self.others[kind as usize].iter().map(|position| self.things[*position]);
        others.map(|thing| versions(thing).is_none().then_some(thing)).collect()
    }
}

impl<'a> ProjectRules<'a> {
    /// The same, to be found for each file.
    pub fn by_file(&self) -> RulesByFile<'a> {
        RulesByFile::new(self)
    }
}

impl<'a> RulesByFile<'a> {
    fn new(of_project: &ProjectRules<'a>) -> Self {
        let ProjectRules { rules, exceptions, is_private, malware } = of_project;
        let (is_private, malware) = (*is_private, malware.clone());
        let rules = Finder::new(
            rules.clone(),
            |rule| rule.sha256.as_ref(),
            |rule| rule.versions.as_ref(),
            |rule, kind| rule.kind.is_none_or(|wanted| wanted.is(kind)),
        );
        let exceptions =
            Finder::new(exceptions.clone(), |_| None, |exemption| exemption.versions.as_ref(), |_, _| true);
        let unnamed = |kind| {
            Some(ProjectRules {
                rules: rules.unnamed(kind, |rule| rule.versions.as_ref())?,
                exceptions: exceptions.unnamed(kind, |exemption| exemption.versions.as_ref())?,
                is_private,
                malware: Vec::new(),
            })
        };
        let all_unnamed = || {
            let [wheels, sdists, others] = KINDS.map(unnamed);
            Some([wheels?, sdists?, others?])
        };
        let unnamed = if malware.is_empty() { all_unnamed() } else { None };
        Self { rules, exceptions, is_private, malware, unnamed }
    }

    /// What may be about a file of these versions, with this digest and of this kind.
    pub fn about(&self, versions: &NamedVersions, sha256: Option<Sha256>, kind: FileKind) -> Cow<'_, ProjectRules<'a>> {
        let (mut rules, mut exceptions) = (self.rules.named(versions, sha256), self.exceptions.named(versions, None));
        if let Some(unnamed) = &self.unnamed
            && rules.next().is_none()
            && exceptions.next().is_none()
        {
            return Cow::Borrowed(&unnamed[kind as usize]);
        }
        let may_block = |range: &VersionRange| versions.any(|version| range.contains(version));
        let may_lift = |range: &VersionRange| versions.all(|version| range.contains(version));
        let rules = self.rules.find(versions, sha256, kind);
        let exceptions = self.exceptions.find(versions, None, kind);
        Cow::Owned(ProjectRules {
            rules: rules.filter(|rule| rule.versions.as_ref().is_none_or(may_block)).collect(),
            exceptions: exceptions.filter(|of| of.versions.as_ref().is_none_or(may_lift)).collect(),
            is_private: self.is_private,
            malware: self.malware.iter().filter(|malware| versions.are_affected(&malware.versions)).cloned().collect(),
        })
    }

    /// Whether a rule names this digest.
    pub fn names(&self, sha256: Option<Sha256>) -> bool {
        sha256.is_some_and(|sha256| self.rules.of_digest.contains_key(&sha256))
    }
}
