//! Settings from file contents and overrides: precedence, inheritance, refusals.

use clap::Parser as _;
use wheelport_runtime::Size;

use super::file::ConfigurationFile;
use super::load::compose;
use super::*;
use crate::control::{AccountId, DomainName, RegionName, RepositoryName, RoleArn};
use crate::web::UploadPolicy;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn from(text: &str, over: Overrides) -> Result<Settings, Box<dyn std::error::Error>> {
    Ok(compose(toml::from_str::<ConfigurationFile>(text)?, over)?)
}

fn refusal(text: &str, over: Overrides) -> String {
    from(text, over).map_or_else(|error| error.to_string(), |settings| format!("accepted: {settings:?}"))
}

fn flags(domain: &str, repository: &str) -> Result<Overrides, Box<dyn std::error::Error>> {
    let repository = RepositoryOverrides {
        domain: Some(DomainName::parse(domain)?),
        name: Some(RepositoryName::parse(repository)?),
        ..RepositoryOverrides::default()
    };
    Ok(Overrides { repository, ..Overrides::default() })
}

const TWO_ROUTES: &str = r#"
    listen = ["127.0.0.1:8080", "[::1]:8080"]
    [aws]
    region = "eu-central-1"
    token_lifetime = "1h"
    [[route]]
    name = "pypi"
    domain = "acme"
    domain_owner = "111122223333"
    repository = "python"
    default = true
    [[route]]
    name = "data"
    domain = "acme-data"
    repository = "wheels"
    region = "us-east-1"
    role_arn = "arn:aws:iam::111122223333:role/read"
    [cache]
    max_size = "50GiB"
    fresh_for = "30s"
"#;

#[test]
fn flags_alone_make_one_default_route() -> TestResult {
    let settings = from("", flags("acme", "python")?)?;
    assert_eq!(settings.default_route, Some(0));
    assert_eq!(&*settings.routes[0].name, "python");
    assert_eq!(settings.listen, [DEFAULT_LISTEN]);
    Ok(())
}

#[test]
fn routes_inherit_from_the_aws_table_and_may_differ() -> TestResult {
    let settings = from(TWO_ROUTES, Overrides::default())?;
    let region = |at: usize| settings.routes[at].aws.region.as_ref().map(|region| region.as_str().to_owned());
    assert_eq!((region(0).as_deref(), region(1).as_deref()), (Some("eu-central-1"), Some("us-east-1")));
    assert_eq!(settings.default_route, Some(0));
    assert_eq!(settings.listen.len(), 2);
    assert_eq!(settings.cache.max_size, Size::gib(50));
    Ok(())
}

#[test]
fn a_flag_wins_over_the_file() -> TestResult {
    let file = "listen = \"127.0.0.1:1\"\n[[route]]\ndomain = \"acme\"\nrepository = \"python\"\nname = \"mine\"";
    let over = Overrides { listen: vec!["127.0.0.1:2".parse()?], ..flags("other", "python")? };
    let settings = from(file, over)?;
    assert_eq!(settings.routes[0].domain.as_str(), "other");
    assert_eq!(&*settings.routes[0].name, "mine");
    assert_eq!(settings.listen, ["127.0.0.1:2".parse()?]);
    Ok(())
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    let text = refusal("\n\nlisten_on = \"127.0.0.1:1\"", Overrides::default());
    assert!(text.contains("listen_on") && text.contains("line 3"), "{text}");
    let text = refusal("[cache]\nmax_siz = \"1GiB\"", Overrides::default());
    assert!(text.contains("max_siz") && text.contains("line 2"), "{text}");
}

#[test]
fn settings_that_contradict_each_other_come_with_a_remedy() -> TestResult {
    for (file, over, part) in [
        ("", Overrides::default(), "wheelport demo"),
        (TWO_ROUTES, flags("acme", "python")?, "several [[route]]"),
        ("[[route]]\ndomain = \"acme\"", Overrides::default(), "WHEELPORT_REPOSITORY"),
        ("[[route]]\nrepository = \"r1\"", Overrides::default(), "WHEELPORT_DOMAIN"),
        ("[[route]]\ndomain = \"acme\"\nrepository = \"r1\"\nname = \"a/b\"", Overrides::default(), "letters"),
        (
            "[[identity]]\nname = \"build\"\nclient_certificate = \"spiffe://acme/*\"\nread = [\"*\"]",
            flags("acme", "python")?,
            "[server.tls] client_ca",
        ),
        ("[cache]\nmax_size = \"1MiB\"", flags("acme", "python")?, "64MiB"),
        ("[server]\nidle_timeout = \"0s\"", flags("acme", "python")?, "[server] idle_timeout may not be zero"),
        ("[upstream]\nstall_timeout = \"0s\"", flags("acme", "python")?, "[upstream] stall_timeout may not be zero"),
        ("[upload]\nmax_at_once = 0", flags("acme", "python")?, "[upload] max_at_once may not be zero"),
    ] {
        let text = refusal(file, over);
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_shows_no_secret() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("wheelport.toml");
    let told = |text: &str| -> std::io::Result<String> {
        std::fs::write(&path, text)?;
        let over = Overrides { config: Some(path.clone()), ..Overrides::default() };
        Ok(Settings::load(over).map_or_else(|error| error.to_string(), |_| "accepted".to_owned()))
    };
    for (text, parts) in [
        ("\n[upstream]\nproxy = \"socks5://u:hunter2@proxy.internal\"", ["line 3", "`proxy`"]),
        ("[upstream]\nproxy = \"http://u:hunter2@proxy.internal", ["line 2", "`proxy`"]),
        ("[upstream]\nproxy = [\"hunter2\"]", ["line 2", "`proxy`"]),
        ("[upstream]\npassword = \"hunter2\"", ["`password`", "unknown field `password`"]),
        ("[aws]\nexternal_id = { a = \"hunter2\" }", ["line 2", "`external_id`"]),
        ("[[publisher]]\nname = \"ci\"\ntoken_sha256 = [\"hunter2\"]", ["line 3", "`token_sha256`"]),
        (
            "[[publisher]]\nname = \"ci\"\ntoken_sha256 = \"hunter2\"\n\
             [[route]]\ndomain = \"acme\"\nrepository = \"r1\"",
            ["[[publisher]] `ci`", "sha256sum"],
        ),
        ("[cache]\nmemory = [\"hunter2\"]", ["line 2, `memory`", "a size such as"]),
        ("[cache]\nprefetch = \"hunter2\"", ["line 2, `prefetch`", "`metadata`"]),
        ("[server]\npublic_url = \"hunter2\"", ["line 2", "`public_url`"]),
        ("hunter2", ["line 1", ""]),
    ] {
        let told = told(text)?;
        assert!(!told.contains("hunter2"), "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    Ok(())
}

#[test]
fn secrets_of_operators_come_from_files() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("secret");
    let file = format!("ops_secret_file = {path:?}\n{ROUTE}");
    assert!(refusal(&file, Overrides::default()).contains("cannot be read"));
    std::fs::write(&path, " \n")?;
    assert!(refusal(&file, Overrides::default()).contains("holds no secret"));
    std::fs::write(&path, "hunter2\n")?;
    let settings = from(&file, Overrides::default())?;
    assert!(settings.operators.operations.is_some() && settings.operators.metrics.is_none());
    assert!(!format!("{settings:?}").contains("hunter2"));
    Ok(())
}

#[test]
fn anonymous_uploads_on_an_address_that_others_reach_take_a_second_word() -> TestResult {
    let route = format!("{ROUTE}upload = \"anonymous\"\n");
    for listen in ["127.0.0.1:8080", "[::1]:8080"] {
        from(&format!("listen = \"{listen}\"\n{route}"), Overrides::default())?;
    }
    for listen in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
        let file = format!("listen = [\"127.0.0.1:1\", \"{listen}\"]\n{route}");
        let text = refusal(&file, Overrides::default());
        assert!(text.contains("--allow-anonymous-uploads") && text.contains("route `main`"), "{text}");
        from(&file, Overrides { allow_anonymous_uploads: true, ..Overrides::default() })?;
    }
    Ok(())
}

const ROUTE: &str = "[[route]]\nname = \"main\"\ndomain = \"acme\"\nrepository = \"r1\"\n";
const ROLE: &str = "publish_role_arn = \"arn:aws:iam::111122223333:role/publish\"\n";

fn publisher(more: &str) -> String {
    format!("[[publisher]]\nname = \"ci\"\ntoken_sha256 = \"{}\"\n{more}", "0".repeat(64))
}

#[test]
fn publishing_is_off_by_default() -> TestResult {
    assert_eq!(from(ROUTE, Overrides::default())?.routes[0].upload, UploadPolicy::Off);
    let asked = Overrides { upload: Some(UploadPolicy::Anonymous), ..Overrides::default() };
    assert_eq!(from(ROUTE, asked)?.routes[0].upload, UploadPolicy::Anonymous);
    Ok(())
}

#[test]
fn a_route_with_tokens_has_a_publisher_with_a_token() -> TestResult {
    let token = format!("{ROUTE}upload = \"token\"\n");
    let with = |more: &str| format!("{token}{}", publisher(more));
    for (file, part) in [
        (token.clone(), "sha256sum"),
        (with("routes = [\"other\"]"), "[[publisher]]"),
        (with("routes = [\"main\", \"other\"]"), "`other`, which is not configured"),
        (format!("{ROUTE}{ROLE}"), "publish_role_arn is of no use"),
    ] {
        let text = refusal(&file, Overrides::default());
        assert!(text.contains(part), "{text}");
    }
    let settings = from(&with("projects = [\"acme-*\"]"), Overrides::default())?;
    assert!(settings.identities.has_token_for("main"));
    Ok(())
}

#[test]
fn another_role_may_do_the_publishing() -> TestResult {
    let settings = from(&format!("{ROUTE}upload = \"anonymous\"\n{ROLE}"), Overrides::default())?;
    let route = &settings.routes[0];
    let role = route.publish_aws.as_ref().and_then(|aws| aws.role_arn.clone());
    assert!(role.is_some() && route.aws.role_arn.is_none());
    Ok(())
}

#[test]
fn bounds_of_uploads_have_units() -> TestResult {
    let settings = from(&format!("[upload]\nmax_file_size = \"1GiB\"\n{ROUTE}"), Overrides::default())?;
    assert_eq!(settings.upload.max_file_size, Size::gib(1));
    assert!(refusal("[upload]\nmax_file = 1", Overrides::default()).contains("max_file"));
    Ok(())
}

#[derive(clap::Parser)]
struct CommandLineOfServe {
    #[command(flatten)]
    overrides: Overrides,
}

#[test]
fn what_replicas_share_needs_the_account_of_each_route() {
    let settings = |owner: &str, fleet: &str| {
        let route = format!("[[route]]\ndomain = \"acme\"\nrepository = \"python\"\n{owner}");
        from(&format!("[aws]\nregion = \"eu-central-1\"\n{route}\n[fleet]\n{fleet}"), Overrides::default())
    };
    let owner = "domain_owner = \"111122223333\"";
    for fleet in ["store = \"s3://acme\"", "redis = \"redis://127.0.0.1\""] {
        let error = settings("", fleet).map(drop).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|text| text.contains("needs domain_owner")), "{error:?}");
        assert!(settings(owner, fleet).is_ok());
    }
    assert!(settings("", "replicas = 2").is_ok(), "nothing is shared");
}

#[test]
fn pages_stay_fresh_for_an_hour_only_where_every_event_can_reach_a_replica() {
    let complaint = |fresh_for: &str, fleet: &str| {
        let route = "[[route]]\ndomain = \"acme\"\nrepository = \"python\"\ndomain_owner = \"111122223333\"";
        let cache = format!("[cache]\nfresh_for_internal = \"{fresh_for}\"");
        let text = format!("[aws]\nregion = \"eu-central-1\"\n{route}\n{cache}\n[fleet]\n{fleet}");
        from(&text, Overrides::default()).map_or_else(|error| error.to_string(), |_| String::new())
    };
    let events = "events = \"https://sqs.eu-central-1.amazonaws.com/111122223333/q\"";
    let with = |more: &str| format!("{events}\n{more}");
    for (fresh_for, fleet, told) in [
        ("1h", with("events_own = true"), ""),
        ("1h", with("redis = \"redis://127.0.0.1\""), ""),
        ("61m", with("events_own = true"), "at most 1h"),
        ("1h", String::new(), "set [fleet] events"),
        ("1h", with(""), "events_own = true"),
        ("1h", with("store = \"s3://acme\""), "events_own = true"),
    ] {
        let found = complaint(fresh_for, &fleet);
        assert!(found.contains(told) && found.is_empty() == told.is_empty(), "{fleet}: {found}");
    }
}

#[test]
fn every_flag_reaches_its_setting() -> TestResult {
    let line = [
        "serve",
        "--listen=127.0.0.1:2,127.0.0.1:3",
        "--ops-listen=127.0.0.1:4",
        "--domain=acme",
        "--domain-owner=111122223333",
        "--repository=python",
        "--endpoint=https://repository.invalid/pypi/python/",
        "--region=eu-central-1",
        "--profile=packages",
        "--role-arn=arn:aws:iam::111122223333:role/read",
        "--upload=anonymous",
        "--read=open",
        "--allow-anonymous-uploads",
        "--cache-dir=/var/cache/wheelport",
        "--cache-max-size=2GiB",
        "--public-url=https://packages.invalid/",
        "--allowed-host=a.invalid",
        "--allowed-host=b.invalid",
    ];
    let settings = from("", CommandLineOfServe::try_parse_from(line)?.overrides)?;
    let route = &settings.routes[0];
    assert_eq!(settings.listen, ["127.0.0.1:2".parse()?, "127.0.0.1:3".parse()?]);
    assert_eq!(settings.ops_listen, Some("127.0.0.1:4".parse()?));
    assert_eq!((route.domain.as_str(), route.repository.as_str()), ("acme", "python"));
    assert_eq!(route.domain_owner.as_ref().map(AccountId::as_str), Some("111122223333"));
    assert_eq!(route.endpoint.as_ref().and_then(url::Url::host_str), Some("repository.invalid"));
    assert_eq!(route.upload, UploadPolicy::Anonymous);
    assert_eq!(route.aws.region.as_ref().map(RegionName::as_str), Some("eu-central-1"));
    assert_eq!(route.aws.profile.as_deref(), Some("packages"));
    assert_eq!(route.aws.role_arn.as_ref().map(RoleArn::as_str), Some("arn:aws:iam::111122223333:role/read"));
    assert!(settings.allow_anonymous_uploads);
    assert_eq!(settings.cache_dir, std::path::Path::new("/var/cache/wheelport"));
    assert_eq!(settings.cache.max_size, Size::gib(2));
    assert_eq!(settings.server.public_url.as_ref().and_then(url::Url::host_str), Some("packages.invalid"));
    assert_eq!(settings.server.allowed_hosts.len(), 2);
    Ok(())
}

#[test]
fn advisories_come_from_a_path_or_an_address() -> TestResult {
    let with = |table: &str| {
        format!("[advisories]\n{table}\n[[route]]\nname = \"r\"\ndomain = \"acme\"\nrepository = \"python\"")
    };
    let settings = from(&with("source = \"/srv/osv/all.zip\"\naccept_shrunken = true"), Overrides::default())?;
    assert!(settings.advisories.source.is_some() && settings.advisories.accept_shrunken);
    assert!(from(&with(""), Overrides::default())?.advisories.source.is_none());
    for (table, complaint) in [
        ("source = \"ftp://h/x\"", "http or https"),
        ("refresh = \"1s\"", "at least 1m"),
        ("timeout = \"0s\"", "at least 1m"),
        ("sauce = \"x\"", "sauce"),
    ] {
        let refusal = refusal(&with(table), Overrides::default());
        assert!(refusal.contains(complaint), "{table}: {refusal}");
    }
    Ok(())
}
