//! Addresses of files: what a page's link means to us, and the relative link that we write.
//!
//! CodeArtifact keeps a file at `{page}{version}/{file}`, and so do we. A link of another shape is stored as it is, and
//! the file still gets an address of our shape.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::filename::{FileName, VersionSegment};
use crate::name::ProjectName;
use crate::page::FileAddress;
use crate::sabotage::sabotaged;

/// The middle component of the address of a file whose version is unknown.
pub(crate) const UNKNOWN_VERSION: &str = "-";

/// The characters that a path component escapes: all but the unreserved ones and those sub-delimiters that clients
/// repeat unescaped (versions contain `+` and `!`). A colon is legal in a path, but before the first slash of a
/// relative link it would end a scheme.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'+')
    .remove(b'!')
    .remove(b',')
    .remove(b'=')
    .remove(b'@')
    .remove(b'(')
    .remove(b')')
    .remove(b'$')
    .remove(b'*');

fn encode_component(raw: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(raw, COMPONENT)
}

/// The link from a project's page to one of its files: `{version}/{file}`, percent-encoded.
pub(crate) fn below_page(version: &VersionSegment, file: &FileName) -> String {
    format!("{}/{}", encode_component(version.as_str()), encode_component(file.as_str()))
}

impl FileAddress {
    /// The link from the directory of all project pages: `{project}/{version}/{file}`, percent-encoded.
    pub fn relative(&self) -> String {
        format!("{}/{}", self.project, below_page(&self.version, &self.file))
    }
}

/// Resolves a link against the address that relative links start from; `None` unless it is a web address.
pub(crate) fn resolve(against: &Url, link: &str) -> Option<Url> {
    let url = against.join(link).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// The last path component of an address, decoded; `None` if it names no file.
pub(crate) fn last_component(url: &Url) -> Option<FileName> {
    let raw = url.path_segments()?.next_back()?;
    FileName::parse(&percent_decode_str(raw).decode_utf8().ok()?).ok()
}

/// Where a file is: the middle component of its address here, and upstream's address if that is a different one.
pub(crate) fn locate(
    page: &Url,
    project: &ProjectName,
    mut url: Url,
    file: &FileName,
) -> (VersionSegment, Option<Url>) {
    url.set_fragment(None);
    if let Some(version) = segment_below(page, &url, file)
        && !sabotaged("version-of-address")
    {
        return (version, None);
    }
    let version = file
        .version_of(project)
        .and_then(|version| VersionSegment::parse(version).ok())
        .or_else(|| parent_component(&url))
        .unwrap_or_else(|| VersionSegment::parse(UNKNOWN_VERSION).expect("the placeholder is a valid component"));
    (version, Some(url))
}

/// The version component if the address is exactly `{page}{version}/{file}`.
fn segment_below(page: &Url, url: &Url, file: &FileName) -> Option<VersionSegment> {
    if url.origin() != page.origin() || url.query().is_some() || last_component(url)? != *file {
        return None;
    }
    let (version, rest) = url.path().strip_prefix(page.path())?.split_once('/')?;
    if rest.contains('/') {
        return None;
    }
    VersionSegment::parse(&percent_decode_str(version).decode_utf8().ok()?).ok()
}

fn parent_component(url: &Url) -> Option<VersionSegment> {
    let raw = url.path_segments()?.rev().nth(1)?;
    VersionSegment::parse(&percent_decode_str(raw).decode_utf8().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://index.example.org/pypi/python/simple/torch/";

    fn project() -> ProjectName {
        ProjectName::parse("torch").expect("a valid name")
    }

    fn placed(link: &str, file: &str) -> (String, Option<String>) {
        let page = Url::parse(PAGE).expect("a valid address");
        let file = FileName::parse(file).expect("a valid name");
        let url = resolve(&page, link).expect("a web address");
        let (version, url) = locate(&page, &project(), url, &file);
        (version.to_string(), url.map(String::from))
    }

    #[test]
    fn a_link_of_our_own_shape_needs_no_other_address() {
        let file = "torch-2.1.0+cu118-py3-none-any.whl";
        for link in [
            "2.1.0+cu118/torch-2.1.0+cu118-py3-none-any.whl",
            "./2.1.0%2Bcu118/torch-2.1.0%2bcu118-py3-none-any.whl#sha256=00",
            "/pypi/python/simple/torch/2.1.0+cu118/torch-2.1.0+cu118-py3-none-any.whl",
            "https://INDEX.example.org:443/pypi/python/simple/torch/2.1.0+cu118/torch-2.1.0+cu118-py3-none-any.whl",
        ] {
            assert_eq!(placed(link, file), ("2.1.0+cu118".to_owned(), None), "{link}");
        }
    }

    #[test]
    fn any_other_link_is_stored_as_it_is_and_the_file_gets_an_address_here() {
        let elsewhere = |version: &str, url: &str| (version.to_owned(), Some(url.to_owned()));
        for (link, file, expected) in [
            (
                "../../packages/torch/2.0/torch-2.0.tar.gz#sha256=00",
                "torch-2.0.tar.gz",
                elsewhere("2.0", "https://index.example.org/pypi/python/packages/torch/2.0/torch-2.0.tar.gz"),
            ),
            (
                "https://files.example.org/ab/cd/torch-2.0.tar.gz?sig=x",
                "torch-2.0.tar.gz",
                elsewhere("2.0", "https://files.example.org/ab/cd/torch-2.0.tar.gz?sig=x"),
            ),
            (
                "2.0/torch-2.0.tar.gz?sig=x",
                "torch-2.0.tar.gz",
                elsewhere("2.0", "https://index.example.org/pypi/python/simple/torch/2.0/torch-2.0.tar.gz?sig=x"),
            ),
            (
                "2.0/other-name.tar.gz",
                "torch-2.0.tar.gz",
                elsewhere("2.0", "https://index.example.org/pypi/python/simple/torch/2.0/other-name.tar.gz"),
            ),
            ("/x/1.9/notes.txt", "notes.txt", elsewhere("1.9", "https://index.example.org/x/1.9/notes.txt")),
            ("/notes.txt", "notes.txt", elsewhere("-", "https://index.example.org/notes.txt")),
            (
                "/%2e%2e%2f/a%2Fb/notes.txt",
                "notes.txt",
                elsewhere("-", "https://index.example.org/%2e%2e%2f/a%2Fb/notes.txt"),
            ),
        ] {
            assert_eq!(placed(link, file), expected, "{link}");
        }
    }

    #[test]
    fn only_web_addresses_are_files() {
        let page = Url::parse(PAGE).expect("a valid address");
        for link in
            ["mailto:a@example.org", "javascript:alert(1)", "file:///etc/passwd", "data:,x", "ftp://example.org/a.whl"]
        {
            assert_eq!(resolve(&page, link), None, "{link}");
        }
    }

    #[test]
    fn a_link_that_we_write_resolves_to_the_same_file() {
        for (version, file) in [("1!2.0+a", "a b(1)+é&';.whl"), ("x:y", "a:b.zip"), ("-", "@$*,=~.egg")] {
            let version = VersionSegment::parse(version).expect("a valid component");
            let file = FileName::parse(file).expect("a valid name");
            let page = Url::parse(PAGE).expect("a valid address");
            let url = resolve(&page, &below_page(&version, &file)).expect("a web address");
            assert_eq!(last_component(&url), Some(file.clone()));
            assert_eq!(locate(&page, &project(), url, &file), (version, None));
        }
        let address = FileAddress {
            project: project(),
            version: VersionSegment::parse("2.0+cpu").expect("a valid component"),
            file: FileName::parse("torch 2.whl").expect("a valid name"),
        };
        assert_eq!(address.relative(), "torch/2.0+cpu/torch%202.whl");
    }
}
