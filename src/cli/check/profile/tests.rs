//! One test per row of the table of mistakes, then the mistakes beside it.

use std::time::Duration;

use super::*;

fn inspection(config: &str, selected: &str) -> Inspection {
    Inspection {
        config: Some(TextFile { path: "config".to_owned(), text: config.to_owned() }),
        selected: Some(selected.to_owned()),
        now: Duration::from_hours(500_000),
        ..Inspection::default()
    }
}

fn with_credentials(config: &str, credentials: &str, selected: &str) -> Inspection {
    let credentials = TextFile { path: "credentials".to_owned(), text: credentials.to_owned() };
    Inspection { credentials: Some(credentials), ..inspection(config, selected) }
}

/// Severity, code, profile, place of each finding.
fn short(findings: &[ProfileFinding]) -> Vec<(Severity, &'static str, String, String)> {
    findings
        .iter()
        .map(|finding| {
            let profile = finding.profile.clone().unwrap_or_default();
            (finding.severity, finding.code, profile, format!("{}:{}", finding.file, finding.line))
        })
        .collect()
}

fn is(severity: Severity, code: &'static str, profile: &str, place: &str) -> (Severity, &'static str, String, String) {
    (severity, code, profile.to_owned(), place.to_owned())
}

const BASE: &str = "[profile base]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s\n";

#[test]
fn row_1_source_profile_without_role_and_keys() {
    let findings = inspect(&inspection(&format!("{BASE}\n[profile mfa]\nsource_profile = base\n"), "mfa"));
    assert_eq!(short(&findings), [is(Severity::Error, "source_without_role", "mfa", "config:6")]);
    let finding = &findings[0];
    assert!(finding.others.contains("credential type source_profile requires role_arn, profile mfa"));
    assert!(finding.others.contains("silently find no credentials") && finding.remedy.contains("add role_arn"));
}

#[test]
fn row_2_the_same_with_mfa_serial() {
    let text = format!("{BASE}[profile mfa]\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/x\n");
    let findings = inspect(&inspection(&text, "mfa"));
    assert_eq!(
        short(&findings),
        [
            is(Severity::Error, "source_without_role", "mfa", "config:5"),
            is(Severity::Error, "mfa_ignored", "mfa", "config:6")
        ]
    );
    assert!(findings[1].remedy.contains("mint session keys first, or use credential_process or single sign-on"));
}

#[test]
fn row_3_source_profile_without_role_but_with_keys_works_here_and_not_in_go() {
    let keys = "[mfa]\naws_access_key_id = ASIAEXAMPLE\naws_secret_access_key = s\naws_session_token = t\n";
    let config = "[profile mfa]\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/x\n";
    let findings = inspect(&with_credentials(config, keys, "mfa"));
    assert_eq!(
        short(&findings),
        [
            is(Severity::Warning, "source_without_role", "mfa", "config:2"),
            is(Severity::Note, "mfa_ignored", "mfa", "config:3")
        ]
    );
    assert!(findings[0].what.contains("uses the credentials beside it"));
    assert!(findings[0].others.contains("requires role_arn, profile mfa"));
}

#[test]
fn row_4_role_with_mfa() {
    let text = format!("{BASE}[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nmfa_serial = m\n");
    let findings = inspect(&inspection(&text, "r"));
    assert_eq!(short(&findings), [is(Severity::Error, "mfa_unsupported", "r", "config:7")]);
    assert!(findings[0].others.contains("ask for a code"));
}

#[test]
fn row_5_role_whose_source_is_a_profile_of_row_1() {
    let text = format!(
        "{BASE}[profile mfa]\nsource_profile = base\n\
         [profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = mfa\n"
    );
    let findings = inspect(&inspection(&text, "r"));
    assert_eq!(short(&findings), [is(Severity::Error, "source_without_role", "mfa", "config:5")]);
}

#[test]
fn row_6_role_only() {
    let findings = inspect(&inspection("[profile r]\nrole_arn = arn:aws:iam::1:role/r\n", "r"));
    assert_eq!(short(&findings), [is(Severity::Error, "role_without_source", "r", "config:2")]);
}

#[test]
fn row_7_source_profile_that_does_not_exist() {
    let text = "[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = nope\n";
    let findings = inspect(&inspection(text, "r"));
    assert_eq!(short(&findings), [is(Severity::Error, "source_missing", "r", "config:3")]);
    assert!(findings[0].what.contains("`nope`"));
}

#[test]
fn row_8_selected_profile_that_does_not_exist() {
    let findings = inspect(&inspection(BASE, "nope"));
    assert_eq!(short(&findings), [is(Severity::Error, "profile_missing", "nope", "config:0")]);
    assert_eq!(inspect(&Inspection::default()), [], "a default profile is optional");
    assert_eq!(short(&inspect(&inspection("", "default"))), []);
}

#[test]
fn row_9_both_sources() {
    let text = "[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = r2\ncredential_source = Environment\n";
    let findings = inspect(&inspection(text, "r"));
    assert_eq!(short(&findings), [is(Severity::Error, "two_sources", "r", "config:4")]);
}

#[test]
fn what_is_right_is_left_alone() {
    for text in [
        BASE.to_owned(),
        format!("{BASE}[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n")
            .replace("profile r]", "profile base2]"),
        "[profile base]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = Ec2InstanceMetadata\n".to_owned(),
        "[profile base]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = /t\n".to_owned(),
        "[profile base]\ncredential_process = /bin/x --y # comment\n".to_owned(),
        format!("{BASE}role_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"),
    ] {
        assert_eq!(short(&inspect(&inspection(&text, "base"))), [], "{text}");
    }
}

#[test]
fn credential_source_without_role_is_go_s_other_complaint() {
    let findings = inspect(&inspection("[profile e]\ncredential_source = Environment\n", "e"));
    assert_eq!(short(&findings), [is(Severity::Warning, "named_source_without_role", "e", "config:2")]);
    assert!(findings[0].others.contains("credential type credential_source requires role_arn, profile e"));
    let findings = inspect(&inspection("[profile e]\nrole_arn = a\ncredential_source = ec2\n", "e"));
    assert_eq!(short(&findings), [is(Severity::Error, "unknown_source", "e", "config:3")]);
}

#[test]
fn a_token_file_needs_a_role() {
    let findings = inspect(&inspection("[profile w]\nweb_identity_token_file = /t\n", "w"));
    assert_eq!(short(&findings), [is(Severity::Error, "web_identity_without_role", "w", "config:2")]);
}

#[test]
fn circles_end() {
    let text = "[profile a]\nrole_arn = x\nsource_profile = b\n[profile b]\nrole_arn = y\nsource_profile = a\n";
    let findings = inspect(&inspection(text, "a"));
    assert_eq!(short(&findings), [is(Severity::Error, "profile_loop", "b", "config:6")]);
}

#[test]
fn half_keys_and_expired_keys() {
    for (text, code, line) in [
        ("[profile p]\naws_access_key_id = AKIDEXAMPLE\n", "partial_keys", 2),
        ("[profile p]\naws_secret_access_key = s\n", "partial_keys", 2),
        ("[profile p]\naws_session_token = s\n", "partial_keys", 2),
        ("[profile p]\naws_access_key_id = ASIAEXAMPLE\naws_secret_access_key = s\n", "session_token_missing", 2),
        (
            "[profile p]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s\n\
             expiration = 2026-01-01T00:00:00+00:00\n",
            "keys_expired",
            4,
        ),
    ] {
        let findings = inspect(&inspection(text, "p"));
        assert_eq!(short(&findings), [is(Severity::Error, code, "p", &format!("config:{line}"))], "{text}");
    }
}

#[test]
fn mfa_beside_long_lived_keys_is_a_warning() {
    let findings = inspect(&inspection(&format!("{BASE}mfa_serial = m\n"), "base"));
    assert_eq!(short(&findings), [is(Severity::Warning, "mfa_ignored", "base", "config:4")]);
}

#[test]
fn an_empty_profile_is_a_note_and_an_empty_source_an_error() {
    let text = "[profile e]\nregion = eu-central-1\n[profile r]\nrole_arn = x\nsource_profile = e\n";
    let note = inspect(&inspection(text, "e"));
    assert_eq!(short(&note), [is(Severity::Note, "no_credentials", "e", "config:1")]);
    let error = inspect(&inspection(text, "r"));
    assert_eq!(short(&error), [is(Severity::Error, "source_without_credentials", "e", "config:1")]);
}

#[test]
fn the_shape_of_the_files() {
    let config = "[base]\naws_access_key_id = x\n[default]\nregion = a\n[profile twice]\nregion = a\n[profile twice]\n\
                  region = b\n[plugins]\nx = y\n[services s]\ncodeartifact =\n  endpoint_url = http://x.invalid\n";
    let findings = inspect(&with_credentials(config, "[profile p]\naws_access_key_id = x\n", "base"));
    let found = short(&findings);
    for expected in [
        is(Severity::Error, "profile_missing", "base", "config:0"),
        is(Severity::Error, "prefix_missing", "base", "config:1"),
        is(Severity::Warning, "section_twice", "twice", "config:7"),
        is(Severity::Note, "prefix_too_much", "p", "credentials:1"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn lines_that_spoil_the_file() {
    for (text, line) in
        [("region = x\n[default]\n", 1), ("[default]\nregion\n", 2), ("[default\n", 1), ("[default]\n= x\n", 2)]
    {
        let findings = inspect(&inspection(text, "default"));
        let bad = is(Severity::Error, "bad_line", "", &format!("config:{line}"));
        assert!(short(&findings).contains(&bad), "{text}: {findings:?}");
    }
}

#[test]
fn default_twice_under_two_names() {
    let text = format!("[default]\nregion = x\n{}", BASE.replace("profile base", "profile default"));
    let findings = inspect(&inspection(&text, "default"));
    assert_eq!(short(&findings), [is(Severity::Warning, "default_ignored", "default", "config:1")]);
}

const SSO: &str = "[profile s]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = r\n\
                   [sso-session corp]\nsso_start_url = https://corp.invalid/start\nsso_region = eu-central-1\n";

fn sso(cached: &str) -> Vec<(Severity, &'static str, String, String)> {
    let mut inspection = inspection(SSO, "s");
    inspection.sso_cache.push(TextFile { path: "cache".to_owned(), text: cached.to_owned() });
    short(&inspect(&inspection))
}

#[test]
fn single_sign_on_needs_a_session_that_lives() {
    let token =
        |rest: &str| format!("{{\"startUrl\":\"https://corp.invalid/start/\",\"accessToken\":\"canary\",{rest}}}");
    assert_eq!(sso(&token("\"expiresAt\":\"2099-01-01T00:00:00Z\"")), []);
    assert_eq!(sso(&token("\"expiresAt\":\"2099-01-01T00:00:00UTC\"")), []);
    assert_eq!(sso(&token("\"expiresAt\":\"2020-01-01T00:00:00Z\",\"refreshToken\":\"canary\"")), []);
    let expired = [is(Severity::Error, "sso_expired", "s", "config:2")];
    assert_eq!(sso(&token("\"expiresAt\":\"2020-01-01T00:00:00Z\"")), expired);
    let out = [is(Severity::Error, "sso_signed_out", "s", "config:2")];
    let other = r#"{"startUrl":"https://other.invalid/start","accessToken":"x","expiresAt":"2099-01-01T00:00:00Z"}"#;
    assert_eq!(sso(other), out);
    assert_eq!(sso("not json"), out);
}

#[test]
fn single_sign_on_has_to_be_complete() {
    for (gone, code) in [
        ("[sso-session corp]", "sso_session_missing"),
        ("sso_region = eu-central-1\n", "sso_incomplete"),
        ("sso_role_name = r\n", "sso_incomplete"),
    ] {
        let text = SSO.replace(gone, "");
        let found = inspect(&inspection(&text, "s"));
        assert_eq!(found.first().map(|finding| finding.code), Some(code), "{text}");
    }
}

#[test]
fn no_finding_shows_a_key() {
    let text = "[profile p]\naws_access_key_id = AKIDCANARY\naws_session_token = secretcanary\n\
         mfa_serial = x\nsource_profile = b\n";
    let shown = serde_json::to_string(&inspect(&inspection(text, "p"))).unwrap_or_default();
    assert!(shown.contains("partial_keys") && !shown.to_ascii_lowercase().contains("canary"), "{shown}");
}
