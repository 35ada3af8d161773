//! The names of objects. All lie below `PREFIX/v1/`: the number is that of the layout, so that processes of two layouts
//! can run side by side.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use wheelport_index::{ProjectName, Sha256};

use super::super::settings::StoreLocation;

/// What stands in the name of an object as it is; everything else is written in percent signs.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// The name of an object below the prefix and the layout's version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The file with these bytes.
    pub fn blob(sha256: Sha256) -> Self {
        Self::by_digest("blob", sha256)
    }

    /// The core metadata of the wheel with these bytes.
    pub fn metadata(wheel: Sha256) -> Self {
        Self::by_digest("metadata", wheel)
    }

    /// What upstream said of a project.
    pub fn page(repository: &str, project: &ProjectName) -> Self {
        Self::of_project("page", repository, project)
    }

    /// The names of a repository's projects.
    pub fn list(repository: &str) -> Self {
        Self(format!("list/{repository}"))
    }

    /// The files of a project that were published a moment ago.
    pub fn published(repository: &str, project: &ProjectName) -> Self {
        Self::of_project("published", repository, project)
    }

    /// What the files of a project were when they were first seen.
    pub fn first_seen(repository: &str, project: &ProjectName) -> Self {
        Self::of_project("first-seen", repository, project)
    }

    /// The fact that a role has read a repository.
    pub fn reader(repository: &str, role: &str) -> Self {
        Self(format!("reader/{repository}/{role}"))
    }

    /// The exceptions from the rules that operators granted.
    pub fn exceptions() -> Self {
        Self("granted/exceptions".to_owned())
    }

    /// What one process has counted on a day.
    pub fn usage(day: &str, writer: &str) -> Self {
        Self(format!("usage/{day}/{writer}"))
    }

    /// Which processes have counted something on which days of a month.
    pub fn usage_index(month: &str) -> Self {
        Self(format!("usage-index/{month}"))
    }

    /// The tokens that were given back before they expired.
    pub fn burnt() -> Self {
        Self("burnt/tokens".to_owned())
    }

    /// The copy of advisories.
    pub fn advisories() -> Self {
        Self("advisories/osv".to_owned())
    }

    /// The lease of what `name` stands for.
    pub fn lease(name: &str) -> Self {
        Self(format!("lease/{}", Sha256::of(name.as_bytes())))
    }

    /// An object that the start-up probe makes and removes.
    pub fn probe(name: &str) -> Self {
        Self(format!("probe/{name}"))
    }

    fn by_digest(kind: &str, sha256: Sha256) -> Self {
        let text = sha256.to_string();
        Self(format!("{kind}/sha256/{}/{}", &text[..2], &text[2..]))
    }

    fn of_project(kind: &str, repository: &str, project: &ProjectName) -> Self {
        Self(format!("{kind}/{repository}/{project}"))
    }

    /// The path in the bucket, ready for an address; it begins with a slash.
    pub(super) fn path(&self, location: &StoreLocation) -> String {
        let slash = if location.prefix.is_empty() { "" } else { "/" };
        format!("{slash}{}/v1/{}", location.prefix, utf8_percent_encode(&self.0, PLAIN))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_say_what_they_hold() {
        let at = |store: &str, key: &ObjectKey| key.path(&store.parse().expect("a store"));
        let blob = ObjectKey::blob(Sha256([0xab; 32]));
        assert_eq!(at("s3://acme", &blob), format!("/v1/blob/sha256/ab/{}", "ab".repeat(31)));
        let project = ProjectName::parse("hello-world").expect("a name");
        let page = ObjectKey::page("aws/eu-central-1/111122223333/acme/a b", &project);
        assert_eq!(at("s3://acme/x/y", &page), "/x/y/v1/page/aws/eu-central-1/111122223333/acme/a%20b/hello-world");
    }
}
