//! Requirements with hashes, as `pip-compile --generate-hashes` and `uv export` write them.
//!
//! They name no files: the server finds those that have one of the digests.

use super::locked_file::{LockFault, LockedFile, Pins, ReadLock};
use wheelport_index::VersionSegment;
use wheelport_runtime::sabotaged;

/// Reads requirements. One without a hash says nothing of a file, and is an error unless a version is of use too.
/// Options on a line of their own are passed over, but for other files and what is installed from elsewhere.
pub(super) fn parse(text: &str, pins: Pins) -> Result<ReadLock, LockFault> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    for (line, logical) in logical_lines(text) {
        let mut words = logical.split_whitespace().peekable();
        let Some(first) = words.peek().copied() else { continue };
        let fault = |reason| LockFault::Requirement { line, reason };
        if first.starts_with('-') {
            if sabotaged("other-requirements") {
                continue;
            }
            if let Some(other) = option(&logical, "-r", "--requirement") {
                others.push(other.to_owned());
            } else if pins == Pins::Take && option(&logical, "-e", "--editable").is_some() {
                return Err(fault("an editable requirement comes from no index and cannot be audited; leave it out"));
            }
            continue;
        }
        let end = first.find(|letter: char| "=<>!~[;@".contains(letter)).unwrap_or(first.len());
        let hashes: Vec<String> = words.filter_map(|word| word.strip_prefix("--hash=")).map(str::to_owned).collect();
        if hashes.is_empty() && pins == Pins::Take {
            let version = pinned(&logical).ok_or_else(|| {
                fault("a requirement that names no version with == cannot be audited; pin it, or audit a lock file")
            })?;
            files.push(LockedFile::pinned(&first[..end], version)?);
            continue;
        }
        if hashes.is_empty() {
            return Err(fault("a requirement without --hash says nothing of a file; export it with hashes"));
        }
        let file = LockedFile::new(&first[..end], None, hashes)?;
        // Files of malware are soon gone from an index, and only the version tells of them then.
        let version = pinned(&logical).filter(|_| pins == Pins::Take && !sabotaged("pin-beside-hashes"));
        files.push(LockedFile { version: version.map(str::to_owned), ..file });
    }
    Ok(ReadLock { files, others })
}

/// The version of a requirement that allows one alone.
fn pinned(requirement: &str) -> Option<&str> {
    let versions = requirement.split([';', '#']).next()?.split(" --").next()?;
    let (_, version) = versions.split_once("==")?;
    let version = version.trim_start_matches('=').trim();
    (VersionSegment::parse(version).is_ok() && !version.contains([',', '*', ' '])).then_some(version)
}

/// The value of an option on a line of its own, in one of its two spellings.
fn option<'a>(line: &'a str, short: &str, long: &str) -> Option<&'a str> {
    let line = line.trim();
    let value = match line.strip_prefix(long) {
        Some(rest) => rest.strip_prefix('=').or_else(|| rest.starts_with(char::is_whitespace).then_some(rest))?,
        None => line.strip_prefix(short)?,
    };
    Some(value.trim().trim_matches(['"', '\'']))
}

/// Lines without comments, continued ones as one, each with the number of its first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let code = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        let (part, goes_on) = code.strip_suffix('\\').map_or((code, false), |part| (part, true));
        let (first, mut whole) = open.take().unwrap_or((number + 1, String::new()));
        whole.push_str(part);
        whole.push(' ');
        // A comment may stand between the lines of a requirement.
        if goes_on || (line.starts_with('#') && !whole.trim().is_empty()) {
            open = Some((first, whole));
        } else {
            lines.push((first, whole));
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_all_lines_of_a_requirement_count() {
        let text = "\
--index-url http://127.0.0.1:8080/simple/
# made by a tool
Acme.Core[extra]==1.5 ; python_version >= \"3.9\" \\
    --hash=sha256:00aa \\
    --hash=sha256:11bb
    # via acme-app
other==2.0 --hash=sha512:22cc  # a remark
";
        let found = parse(text, Pins::Refuse).expect("requirements").files;
        let shown: Vec<_> = found.iter().map(|file| (file.project.as_str(), file.hashes.join(" "))).collect();
        assert_eq!(shown, [("acme-core", "sha256:00aa sha256:11bb".to_owned()), ("other", "sha512:22cc".to_owned())]);
    }

    #[test]
    fn what_names_no_file_is_an_error_with_its_line() {
        for (text, line) in [("a==1.0\n", 1), ("\n\nb @ https://h/x.whl\n", 3)] {
            let Err(LockFault::Requirement { line: found, .. }) = parse(text, Pins::Refuse) else { panic!("{text}") };
            assert_eq!(found, line, "{text}");
        }
        assert!(matches!(parse("a==1 --hash=sha256:xyz", Pins::Refuse), Err(LockFault::Value { .. })));
    }
    #[test]
    fn a_version_is_enough_where_versions_are_of_use() {
        let text =
            "-r other.txt\nAcme_Core[x] == 1.5 ; python_version > '3'  # a remark\nb===2.0\nc==1 --hash=sha256:00\n";
        let ReadLock { files: found, others } = parse(text, Pins::Take).expect("requirements");
        assert_eq!(others, ["other.txt"]);
        let shown: Vec<_> = found.iter().map(|file| (file.project.as_str(), file.version.as_deref())).collect();
        assert_eq!(shown, [("acme-core", Some("1.5")), ("b", Some("2.0")), ("c", Some("1"))]);
        for text in ["a>=1.0", "a", "a==1.*", "a==1,<2", "-e ./a", "--editable=git+https://h/a"] {
            assert!(parse(text, Pins::Take).is_err(), "{text}");
        }
    }
}
