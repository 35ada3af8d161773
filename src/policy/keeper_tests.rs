use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::tables::PolicyTable;
use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[derive(Default, Clone)]
struct MemoryStore(Arc<Mutex<Option<Vec<u8>>>>);

impl GrantStore for MemoryStore {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().clone())
    }

    fn save(&self, record: &[u8]) -> io::Result<()> {
        *self.0.lock() = Some(record.to_vec());
        Ok(())
    }
}

fn watched(directory: &Path, store: &MemoryStore) -> Result<PolicyHandle, RuleFileError> {
    let table = PolicyTable { directory: Some(directory.to_owned()), ..PolicyTable::default() };
    watch(PolicySettings { table, ..PolicySettings::default() }, Box::new(store.clone()), Clock::system())
}

#[test]
fn broken_files_leave_the_rules_in_force_and_are_reported_once() -> Outcome {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.toml");
    fs::write(&file, "[[rule]]\nname = \"a\"")?;
    let policy = watched(dir.path(), &MemoryStore::default())?;
    let before = policy.revision();
    for _ in 0..2 {
        policy.inner.look();
    }
    assert_eq!((policy.revision(), policy.state().swaps), (before, 0), "nothing has changed");
    fs::write(&file, "[[rule]]\nname = \"a\"\nmode = \"no\"")?;
    for _ in 0..3 {
        policy.inner.look();
    }
    assert_eq!((policy.revision(), policy.rules().len(), policy.state().failures), (before, 1, 1));
    assert!(policy.state().error.is_some_and(|error| error.contains("a.toml, line 3")), "{:?}", policy.state());
    fs::remove_dir_all(dir.path())?;
    for _ in 0..2 {
        policy.inner.look();
    }
    assert_eq!((policy.rules().len(), policy.state().failures), (1, 2), "neither does a missing directory");
    fs::create_dir(dir.path())?;
    fs::write(&file, "")?;
    policy.inner.look();
    assert_eq!((policy.revision(), policy.rules().len(), policy.state().error), (before + 1, 0, None));
    Ok(())
}

#[test]
fn a_mounted_config_map_is_swapped_by_its_link() -> Outcome {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    for (generation, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(at(generation))?;
        fs::write(at(generation).join("rules.toml"), format!("[[rule]]\nname = \"{name}\""))?;
    }
    symlink("..1", at("..data"))?;
    symlink("..data/rules.toml", at("rules.toml"))?;
    let policy = watched(dir.path(), &MemoryStore::default())?;
    let digest = policy.rules().digest();
    symlink("..2", at("..next"))?;
    fs::rename(at("..next"), at("..data"))?;
    policy.inner.look();
    assert_ne!(policy.rules().digest(), digest);
    Ok(())
}

#[test]
fn granted_exceptions_hold_at_once_and_after_a_restart() -> Outcome {
    let (dir, store) = (tempfile::tempdir()?, MemoryStore::default());
    fs::write(dir.path().join("a.toml"), "[[rule]]\nname = \"a\"")?;
    let policy = watched(dir.path(), &store)?;
    let before = policy.revision();
    let new = NewException {
        project: "hello".to_owned(),
        versions: None,
        advisory: None,
        reason: "a fix".to_owned(),
        by: "me".to_owned(),
        expires: "2100-01-01".to_owned(),
    };
    let granted = policy.grant(new)?;
    assert_eq!((policy.revision(), policy.rules().exceptions_at(policy.now())), (before + 1, 1));
    let again = watched(dir.path(), &store)?;
    assert_eq!((again.granted(), again.rules().exceptions_at(again.now())), (vec![granted.clone()], 1));
    again.revoke(&granted.id)?;
    assert_eq!(again.rules().exceptions_at(again.now()), 0);
    assert!(matches!(again.revoke(&granted.id), Err(GrantError::Unknown(_))));
    Ok(())
}

#[test]
fn what_advisories_say_is_swapped_under_a_new_revision_and_outlives_other_changes() -> Outcome {
    let (dir, store) = (tempfile::tempdir()?, MemoryStore::default());
    fs::write(dir.path().join("a.toml"), "[[rule]]\nname = \"a\"")?;
    let policy = watched(dir.path(), &store)?;
    let (before, digest) = (policy.revision(), policy.rules().digest());
    let path = dir.path().join("osv.json");
    fs::write(&path, r#"{"id": "MAL-1", "affected": []}"#)?;
    let mut copy = crate::advisories::CopyWriter::new(io::sink(), &crate::advisories::CopyHeader::default())?;
    crate::advisories::read_export(&path, &AdvisoryTable::default(), &mut copy)?;
    policy.set_advisories(Arc::new(copy.finish()?.1));
    assert_eq!((policy.revision(), policy.rules().len(), policy.advisories().malware()), (before + 1, 1, 1));
    assert_ne!(policy.rules().digest(), digest);
    fs::write(dir.path().join("a.toml"), "")?;
    policy.inner.look();
    assert_eq!((policy.rules().len(), policy.advisories().malware(), policy.is_empty()), (0, 1, false));
    assert_eq!(policy.candidate("")?.advisories().malware(), 1);
    Ok(())
}
