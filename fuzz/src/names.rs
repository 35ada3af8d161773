//! Names of projects, versions and files.

use percent_encoding::percent_decode_str;
use wheelport_index::{FileAddress, FileName, ProjectName, VersionSegment, described, excerpt};

/// `PROJECT\nVERSION\nFILE`: what is accepted is one safe component, and survives the way through an address.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let (project, version, file) = (lines.next(), lines.next().unwrap_or("1.0"), lines.next().unwrap_or("a"));
    assert!(!excerpt(&text).contains(['\n', '\r', '\u{1b}', '\u{2028}']));
    let project = ProjectName::parse(project.unwrap_or_default());
    if let Ok(name) = &project {
        assert_eq!(ProjectName::parse(name.as_str()).as_ref(), Ok(name), "normalising twice changes nothing");
        assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    }
    let version = VersionSegment::parse(version);
    let Ok(file) = FileName::parse(file) else { return };
    safe(file.as_str());
    let _ = (file.kind(), file.stem());
    assert!(!described(&file).is_empty());
    if let Some(found) = file.distribution() {
        assert!(file.as_str().contains(&found.version));
    }
    if let (Ok(project), Ok(version)) = (project, version) {
        safe(version.as_str());
        let address = FileAddress { project, version, file };
        let relative = address.relative();
        let parts: Vec<_> =
            relative.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
        let [project, version, file] = &parts[..] else { panic!("{relative} has other parts") };
        let again = (ProjectName::parse(project), VersionSegment::parse(version), FileName::parse(file));
        assert_eq!(again, (Ok(address.project), Ok(address.version), Ok(address.file)), "{relative}");
    }
}

/// Nothing that could leave a directory, a line or an attribute.
pub(crate) fn safe(component: &str) {
    assert!(!component.is_empty() && component.len() <= 255 && !component.starts_with('.'));
    assert!(!component.chars().any(|c| c.is_control() || "/\\%\"<>".contains(c)), "{component:?}");
}
