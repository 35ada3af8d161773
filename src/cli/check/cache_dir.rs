//! The cache directory: whether it is writable, its free space, its file system, and the processes that use it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock, statfs, statvfs};

use super::report::Finding;
use super::target::CacheTarget;
use crate::cache::is_outdated;
use wheelport_runtime::Size;

const STEP: &str = "cache";
/// Counting stops here; then only the free space is judged.
const MAX_COUNTED: usize = 200_000;

pub(super) fn step(target: &CacheTarget) -> Finding {
    let dir = &target.dir;
    let shown = dir.display();
    let is_outdated = match is_outdated(dir) {
        Ok(is_outdated) => is_outdated,
        Err(error) => {
            return Finding::fail(
                STEP,
                format!("{shown} cannot be used: {error}"),
                "choose another directory with --cache-dir, or make it readable if it is the right one",
            );
        }
    };
    if let Err(error) = write_once(dir) {
        return Finding::fail(
            STEP,
            format!("{shown} cannot be written: {error}"),
            "make the directory belong to the user that runs the proxy, or choose another with --cache-dir",
        );
    }
    let mut details = Vec::new();
    if is_outdated {
        details.push("an earlier version wrote it: files stay, pages are fetched again".to_owned());
    }
    let others = instances(dir);
    if others > 0 {
        details.push(format!("{others} running instance(s) use this directory"));
    }
    let kind = file_system(dir);
    details.extend(kind.map(|kind| format!("file system: {kind}")));
    judge(target, kind, room(dir)).with_details(details)
}

/// What a writable directory on this kind of file system is good for; `room` is the bytes free and the bytes used.
fn judge(target: &CacheTarget, kind: Option<&str>, room: io::Result<(u64, u64)>) -> Finding {
    let shown = target.dir.display();
    let most = Size(target.max_size);
    match (kind, room) {
        (Some(kind), _) if is_remote(kind) => Finding::warn(
            STEP,
            format!("{shown} is on {kind}: locks and renames over a network may be slow or unreliable"),
            "use a local disk for the cache; each replica may have its own",
        ),
        (Some("tmpfs"), _) => Finding::warn(
            STEP,
            format!("{shown} is in memory: it is empty after a restart, and counts against the memory limit"),
            "mount a disk there if files shall outlive a restart",
        ),
        (_, Ok((free, used))) if free.saturating_add(used) < target.max_size => Finding::warn(
            STEP,
            format!(
                "{shown} may grow to {most}, but its file system has room for {} only",
                about(free.saturating_add(used))
            ),
            "lower --cache-max-size or give the file system more room",
        ),
        (_, Ok((free, used))) => {
            let summary = format!("{shown}: writable, {} used of at most {most}, {} free", about(used), about(free));
            Finding::ok(STEP, summary)
        }
        (_, Err(error)) => Finding::warn(
            STEP,
            format!("{shown} is writable, but its free space is not known: {error}"),
            "look at the file system with df",
        ),
    }
}

/// Rounded down, because single bytes say nothing.
pub(in crate::cli) fn about(bytes: u64) -> Size {
    let unit = [1 << 30, 1 << 20, 1 << 10].into_iter().find(|unit| bytes >= unit * 10).unwrap_or(1);
    Size(bytes / unit * unit)
}

/// Creates the directory as the proxy would, and a file in it for a moment.
fn write_once(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let file = tempfile::Builder::new().prefix(".check").tempfile_in(dir)?;
    file.as_file().set_len(1)?;
    file.as_file().sync_all()?;
    file.close()
}

/// Bytes free and bytes used.
fn room(dir: &Path) -> io::Result<(u64, u64)> {
    let about = statvfs(dir)?;
    let mut counted = 0;
    let used = crate::cache::EVICTABLE.iter().map(|part| bytes_in(&dir.join(part), &mut counted)).sum();
    Ok((about.f_bavail.saturating_mul(about.f_frsize), used))
}

fn bytes_in(dir: &Path, counted: &mut usize) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut bytes = 0;
    for entry in entries.filter_map(Result::ok) {
        *counted += 1;
        if *counted > MAX_COUNTED {
            break;
        }
        bytes += match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_in(&entry.path(), counted),
            Ok(about) => about.len(),
            Err(_) => 0,
        };
    }
    bytes
}

/// Processes that hold the lock of their part of the directory.
fn instances(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir.join("tmp")) else { return 0 };
    let locked = |entry: &fs::DirEntry| {
        let file = File::open(entry.path().join("lock"));
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    };
    entries.filter_map(Result::ok).filter(locked).count()
}

/// The kind of file system, where its number is one that matters.
fn file_system(dir: &Path) -> Option<&'static str> {
    let about = statfs(dir).ok()?;
    // The type is signed or not depending on the platform; the numbers are 32 bits wide.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared as 32-bit numbers")]
    Some(match about.f_type as u32 {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x6573_5546 => "FUSE",
        0x00c3_6400 => "CephFS",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0xef53 => "ext4",
        0x5846_5342 => "XFS",
        0x9123_683e => "Btrfs",
        _ => return None,
    })
}

fn is_remote(kind: &str) -> bool {
    matches!(kind, "NFS" | "SMB" | "CephFS")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::StepStatus;

    #[test]
    fn a_usable_directory_is_created_and_left_as_it_was() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let target = CacheTarget { dir: root.path().join("a/b"), max_size: 1 };
        let finding = step(&target);
        assert_ne!(finding.status, StepStatus::Fail, "{finding:?}");
        assert_eq!(fs::read_dir(&target.dir).expect("created").count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_a_failure_with_a_remedy() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("file");
        fs::write(&dir, "x").expect("written");
        let finding = step(&CacheTarget { dir, max_size: 1 });
        assert_eq!(finding.status, StepStatus::Fail);
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("--cache-dir")));
    }

    #[test]
    fn what_serve_would_refuse_is_a_failure_and_what_it_would_move_is_said() {
        let step = |format: Option<&str>| {
            let root = tempfile::tempdir().expect("a temporary directory");
            fs::create_dir(root.path().join("blobs")).expect("created");
            fs::write(root.path().join("blobs/mine"), "precious").expect("written");
            format.map_or(Ok(()), |format| fs::write(root.path().join("format"), format)).expect("written");
            let finding = step(&CacheTarget { dir: root.path().to_owned(), max_size: 1 });
            assert!(root.path().join("blobs/mine").exists());
            finding
        };
        for (format, says) in [(None, "not a cache directory"), (Some("wheelport cache 999\n"), "later version")] {
            let finding = step(format);
            assert_eq!(finding.status, StepStatus::Fail);
            assert!(finding.summary.contains(says), "{finding:?}");
            assert!(finding.remedy.is_some_and(|remedy| remedy.contains("--cache-dir")));
        }
        let finding = step(Some("wheelport cache 1\n"));
        assert_ne!(finding.status, StepStatus::Fail, "{finding:?}");
        assert!(finding.details.iter().any(|line| line.contains("earlier version")), "{finding:?}");
    }

    #[test]
    fn too_little_space_and_other_instances_are_noticed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let part = root.path().join("tmp/w1");
        fs::create_dir_all(&part).expect("created");
        let lock = File::create(part.join("lock")).expect("created");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("free");
        let finding = step(&CacheTarget { dir: root.path().to_owned(), max_size: u64::MAX });
        assert_eq!(finding.status, StepStatus::Warn);
        assert!(finding.details.iter().any(|line| line.starts_with("1 running")), "{finding:?}");
    }
}
