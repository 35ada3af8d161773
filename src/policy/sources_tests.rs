use super::*;

/// The rules of one file.
pub(in super::super) fn compiled(settings: &PolicySettings, text: &str) -> Result<RuleSet, RuleFileError> {
    let files = vec![(PathBuf::from("rules.toml"), text.to_owned())];
    RuleTexts { configured: None, files }.compile(settings, &[])
}

fn settings() -> PolicySettings {
    PolicySettings { routes: vec!["main".into()], ..PolicySettings::default() }
}

#[test]
fn every_error_names_its_file_and_line() {
    for (text, line, part) in [
        ("[[rule]]\nname = \"a\"\nroutes = [\"main\", \"typo\"]", 3, "no route `typo`"),
        ("[[rule]]\nname = \"a\"\n\n[[rule]]\nname = \"a\"", 5, "two rules"),
        ("[[rule]]\nname = \"a\"\nversions = \"2.0\"", 3, "write \"==2.0\""),
        ("[[rule]]\nname = \"a\"\nversions = \"~2 beta\"", 3, "not versions"),
        ("[[rule]]\nname = \"a\"\nyounger_than = 7", 3, "string"),
        ("[[rule]]\nname = \"a\"\nyounger_than = \"soon\"", 3, "not a duration"),
        ("[[rule]]\nname = \"a\"\nprojects = [\"a b\"]", 3, "glob"),
        ("[[rule]]\nname = \"a\"\nkind = \"egg\"", 3, "egg"),
        ("[[rule]]\nname = \"a\"\nmode = \"block\"", 3, "block"),
        ("[[rule]]\nname = \"a\"\nsha256 = [\"abc\"]", 3, "64 hexadecimal"),
        ("[[rule]]\nname = \"a\"\nuploaded_after = \"x\"", 3, "date"),
        ("[[rule]]\nname = \"a\"\nolder_than = \"7d\"", 3, "older_than"),
        ("[[rule]]\nname = \"private-names\"", 2, "another name"),
        ("[[rule]]\nname = \"a b\"", 2, "a name has"),
        ("[[rule]]\nprojects = [\"a\"]", 1, "name"),
        ("[[rule]]\nname = \"a\"\nreason = \"\"", 3, "one line"),
        ("\n[[exception]]\nprojects = [\"a\"]\nreason = \"x\"\nby = \"y\"", 2, "expires"),
        ("[[exception]]\nprojects = [\"a\"]\nreason = \"x\"\nby = \"y\"\nexpires = \"never\"", 5, "date"),
        ("[[freeze]]\nname = \"a\"\nat = 2026-01-01", 1, "freeze"),
        ("[[rule]\n", 1, ""),
    ] {
        let error = compiled(&settings(), text).err();
        let Some(RuleFileError::Malformed { path, line: found, text: reason }) = error else {
            panic!("{text}: {error:?}");
        };
        assert_eq!((path.as_str(), found), ("rules.toml", Some(line)), "{text}: {reason}");
        assert!(reason.contains(part), "{text}: {reason}");
    }
}

#[test]
fn the_configuration_comes_first_and_then_the_files_by_name() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let rules = dir.path().join("rules");
    fs::create_dir(&rules)?;
    let file = dir.path().join("wheelport.toml");
    fs::write(
        &file,
        "listen = \"127.0.0.1:1\"\n[[freeze]]\nname = \"f\"\nat = 2026-01-01T00:00:59Z\n[[rule]]\nname = \"z\"",
    )?;
    fs::write(rules.join("20.toml"), "[[rule]]\nname = \"c\"")?;
    fs::write(rules.join("10.toml"), "[[rule]]\nname = \"b\"")?;
    fs::write(rules.join(".hidden.toml"), "broken")?;
    fs::write(rules.join("README"), "not rules")?;
    let table = PolicyTable { directory: Some(rules.clone()), ..PolicyTable::default() };
    let settings = PolicySettings { table, file: Some(file), ..settings() };
    let set = settings.read()?;
    let project = wheelport_index::ProjectName::parse("a")?;
    let names: Vec<_> = set.of_project("main", &project).rules.iter().map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, ["z", "b", "c"]);
    assert_eq!(set.freeze("f").map(|moment| moment.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(set.freeze("g"), None);
    fs::write(rules.join("30.toml"), "[[rule]]\nname = \"b\"")?;
    assert!(settings.read().is_err(), "a name is that of one rule in all files");
    Ok(())
}
