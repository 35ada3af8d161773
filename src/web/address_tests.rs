//! Every shape, every hostile spelling, and the promise that two paths share an address only if they mean the same.

use proptest::prelude::*;
use url::Url;

use super::*;

const PYTHON: RouteId = RouteId(0);
const FLASK: RouteId = RouteId(1);

/// Two routes, the first one default; the second has the name of a project.
fn routes() -> RouteNames {
    RouteNames::new(["python".into(), "flask".into()], Some(PYTHON))
}

fn name(raw: &str) -> ProjectName {
    ProjectName::parse(raw).expect("a valid name")
}

fn file_address(project: &str, version: &str, file: &str) -> FileAddress {
    FileAddress {
        project: name(project),
        version: VersionSegment::parse(version).expect("a valid segment"),
        file: FileName::parse(file).expect("a valid file name"),
    }
}

fn page(route: RouteId, project: &str) -> Address {
    Address::Page { route, project: name(project) }
}

fn file(route: RouteId, project: &str, version: &str, file: &str) -> Address {
    Address::File { route, file: file_address(project, version, file) }
}

fn legacy_of(route: RouteId, project: &str, version: Option<&str>) -> Address {
    let version = version.map(|raw| VersionSegment::parse(raw).expect("a valid segment"));
    Address::Legacy { route, project: name(project), version }
}

fn address(path: &str) -> Result<Address, Refusal> {
    parse(path, &routes()).map(|parsed| parsed.address)
}

fn served(path: &str, expected: &Address) {
    assert_eq!(parse(path, &routes()), Ok(expected.clone().into()), "{path}");
}

#[test]
fn every_shape_is_understood() {
    let wheel = "torch-2.1.0+cu118-cp311-cp311-linux_x86_64.whl";
    for (path, expected) in [
        ("/", Address::Home),
        ("//", Address::Home),
        ("", Address::Home),
        ("/pypi/python", Address::Upload { route: PYTHON }),
        ("/pypi/flask/", Address::Upload { route: FLASK }),
        ("/legacy", Address::Upload { route: PYTHON }),
        ("/legacy/", Address::Upload { route: PYTHON }),
        ("/simple/", Address::List { route: PYTHON }),
        ("/pypi/flask/simple/", Address::List { route: FLASK }),
        ("/simple/flask/", page(PYTHON, "flask")),
        ("/pypi/python/simple/flask/", page(PYTHON, "flask")),
        ("/pypi/flask/simple/flask/", page(FLASK, "flask")),
        ("/+simple/flask/", page(PYTHON, "flask")),
        ("/%2Bsimple/flask/", page(PYTHON, "flask")),
        ("/legacy/%2bsimple/flask/", page(PYTHON, "flask")),
        ("/pypi/flask/%2Bsimple/x/", page(FLASK, "x")),
        ("/simple/torch/2.1.0/torch-2.1.0.tar.gz", file(PYTHON, "torch", "2.1.0", "torch-2.1.0.tar.gz")),
        (
            &format!("/pypi/flask/simple/torch/2.1.0%2bcu118/{}", wheel.replace('+', "%2B")),
            file(FLASK, "torch", "2.1.0+cu118", wheel),
        ),
        (&format!("/simple/torch/2.1.0+cu118/{wheel}"), file(PYTHON, "torch", "2.1.0+cu118", wheel)),
        (
            &format!("/simple/torch/2.1.0+cu118/{wheel}.metadata"),
            Address::Metadata { route: PYTHON, wheel: file_address("torch", "2.1.0+cu118", wheel) },
        ),
        ("/simple/x/1/notes.metadata", file(PYTHON, "x", "1", "notes.metadata")),
        ("/simple/Zope.Interface/5.0/a.zip", file(PYTHON, "zope-interface", "5.0", "a.zip")),
        ("/requests/json", legacy_of(PYTHON, "requests", None)),
        ("/Requests/2.0/json/", legacy_of(PYTHON, "requests", Some("2.0"))),
        ("/pypi/requests/json", legacy_of(PYTHON, "requests", None)),
        ("/pypi/requests/2.0/json", legacy_of(PYTHON, "requests", Some("2.0"))),
        ("/pypi/flask/requests/json", legacy_of(FLASK, "requests", None)),
        ("/pypi/flask/pypi/requests/json", legacy_of(FLASK, "requests", None)),
        ("/pypi/flask/pypi/requests/2.0/json", legacy_of(FLASK, "requests", Some("2.0"))),
        ("/pypi/flask/requests/2.0/json", legacy_of(FLASK, "requests", Some("2.0"))),
        ("/legacy/json", legacy_of(PYTHON, "legacy", None)),
        ("/pypi/json", legacy_of(PYTHON, "pypi", None)),
    ] {
        served(path, &expected);
    }
}

#[test]
fn a_date_behind_the_route_is_kept_apart() {
    for (path, expected, date) in [
        ("/pypi/flask@2026-01-01/simple/x/", page(FLASK, "x"), "2026-01-01"),
        ("/pypi/python@a@b/simple/", Address::List { route: PYTHON }, "a@b"),
        ("/pypi/python%402026/x/json", legacy_of(PYTHON, "x", None), "2026"),
        ("/pypi/python@/", Address::Upload { route: PYTHON }, ""),
    ] {
        let parsed = parse(path, &routes()).expect(path);
        assert_eq!((parsed.address, parsed.as_of.as_deref()), (expected, Some(date)), "{path}");
    }
    assert!(address("/pypi/nowhere@2026/simple/x/").is_err() && address("/simple@2026/x/").is_err());
}

#[test]
fn a_route_wins_over_a_project_of_its_name() {
    served("/pypi/flask/1.0/json", &legacy_of(FLASK, "1.0", None));
    assert_eq!(address("/pypi/flask/json"), Err(Refusal::NothingHere));
}

#[test]
fn the_index_wins_over_a_project_called_simple() {
    served("/simple/json/", &page(PYTHON, "json"));
    served("/pypi/python/pypi/simple/json", &legacy_of(PYTHON, "simple", None));
}

#[test]
fn what_is_not_there_is_told_apart() {
    let no_route = |route: &str| Refusal::NoSuchRoute { route: route.to_owned() };
    for (path, expected) in [
        ("/pypi/nowhere/simple/flask/", no_route("nowhere")),
        ("/pypi/nowhere/simple/json/", no_route("nowhere")),
        ("/pypi/nowhere/", no_route("nowhere")),
        ("/pypi/simple/flask/", no_route("simple")),
        ("/pypi/simple/json/", no_route("simple")),
        ("/pypi", Refusal::NotOffered { protocol: "The XML-RPC interface" }),
        ("/pypi/", Refusal::NotOffered { protocol: "The XML-RPC interface" }),
        ("/_/oidc/other", Refusal::NotOffered { protocol: "This part of trusted publishing" }),
        ("/_/oidc/gitlab/mint-token", Refusal::NotOffered { protocol: "This part of trusted publishing" }),
        ("/.well-known/other", Refusal::NotOffered { protocol: "Discovery" }),
        ("/favicon.ico", Refusal::NothingHere),
        ("/simple/flask/1.0/", Refusal::NothingHere),
        ("/simple/flask/1.0/a.zip/", Refusal::NothingHere),
        ("/simple/flask/1.0/a.zip/b", Refusal::NothingHere),
        ("/a/b/c/d/e/f/g/h/i", Refusal::NothingHere),
    ] {
        assert_eq!(address(path), Err(expected), "{path}");
    }
    let without_default = RouteNames::new(["python".into()], None);
    assert_eq!(parse("/simple/flask/", &without_default), Err(Refusal::NoDefaultRoute));
    assert_eq!(parse("/flask/json", &without_default), Err(Refusal::NoDefaultRoute));
    assert_eq!(parse("/robots.txt", &without_default), Err(Refusal::NothingHere));
    assert!(parse("/pypi/python/simple/flask/", &without_default).is_ok());
}

#[test]
fn doubled_slashes_are_served() {
    for path in ["//simple/flask/", "/simple//flask/", "/simple/flask//", "//simple///flask//"] {
        served(path, &page(PYTHON, "flask"));
    }
    served("/simple//flask//1.0///a.zip", &file(PYTHON, "flask", "1.0", "a.zip"));
}

#[test]
fn a_redirect_leads_to_the_proper_page_from_everywhere() {
    for path in [
        "/simple/Zope_Interface",
        "/simple/Zope_Interface/",
        "/simple/zope-interface",
        "/simple/zope%5Finterface/",
        "/simple//Zope.Interface//",
        "//simple/Zope.Interface///",
        "/deep/below/simple/Zope.Interface",
        "/+simple/Zope.Interface",
        "/simple",
        "/pypi/flask/simple",
        "/pypi/flask/simple/ZOPE.INTERFACE/",
    ] {
        // A prefix that a server in front cuts off does not change where a relative reference leads.
        let inner = path.strip_prefix("/deep/below").unwrap_or(path);
        let parsed = parse(inner, &routes()).unwrap_or_else(|error| panic!("{inner}: {error}"));
        let location = parsed.redirect.unwrap_or_else(|| panic!("{inner} is not redirected"));
        assert!(!location.starts_with('/') && !location.contains([':', '\\']), "{location}");
        let base = Url::parse(&format!("http://index.example.org{path}")).expect("a URL");
        let target = base.join(&location).expect("a relative reference");
        assert_eq!(target.host_str(), Some("index.example.org"));
        let target = target.path();
        let target = target.strip_prefix("/deep/below").unwrap_or(target);
        let again = parse(target, &routes());
        assert_eq!(again, Ok(parsed.address.into()), "{path} leads to {target}");
    }
}

#[test]
fn no_redirect_leaves_the_host() {
    for path in ["//evil.example/", "/\\evil.example", "/%2f%2fevil.example", "//evil.example/simple/X"] {
        let redirect = parse(path, &routes()).ok().and_then(|parsed| parsed.redirect);
        assert_eq!(redirect, None, "{path}");
    }
}

#[test]
fn hostile_spellings_are_refused() {
    let payloads = [
        "..",
        ".",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%2e",
        "..%2f",
        "%2f..",
        "..%5c",
        "%5c..%5c",
        "a%2fb",
        "a%2Fb",
        "a%5Cb",
        "a\\b",
        "%252e%252e",
        "%252f",
        "a%25",
        "%",
        "%2",
        "%zz",
        "a%00",
        "%00",
        "a%0d%0aX-Y:%20z",
        "a%0a",
        "a%7f",
        "%c0%ae%c0%ae",
        "%c0%af",
        "%e0%80%af",
        "%f0%80%80%af",
        "%ff",
        "%fe%fe",
        "%u002e",
        "..%c0%af",
        "%ef%bc%8f",
        "\u{ff0f}",
        "a\u{2215}b",
        "\u{2044}",
        "\u{ff0e}\u{ff0e}",
        "%e2%80%a5",
        "a%c2%85b",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%2e%2e;",
        "..;",
        "a%09b",
        "a%1bb",
        ".%00.",
        "%5c%5cserver%5cshare",
        "a%2500",
        "\u{1}",
        "a\u{9f}",
    ];
    let places = |payload: &str| {
        [
            format!("/simple/{payload}/"),
            format!("/simple/flask/{payload}/a.whl"),
            format!("/simple/flask/1.0/{payload}"),
            format!("/pypi/python/simple/flask/{payload}/a.whl"),
            format!("/simple/flask/1.0/{payload}/a/b/c/d/e/f"),
        ]
    };
    let mut tried = 0;
    for payload in payloads {
        for path in places(payload) {
            let answer = address(&path);
            let deep = path.ends_with("/f") && answer == Err(Refusal::NothingHere);
            assert!(matches!(answer, Err(Refusal::BadAddress { .. })) || deep, "{path}: {answer:?}");
            tried += 1;
        }
    }
    assert!(tried >= 200, "{tried}");
    assert_eq!(address(&"/a".repeat(MAX_LENGTH)), Err(AddressFault::TooLong.into()));
    let long = format!("/simple/flask/1.0/{}", "a".repeat(256));
    assert!(matches!(address(&long), Err(Refusal::BadAddress { .. })));
    assert_eq!(address(&format!("/simple/flask{}", "/".repeat(9))), Err(Refusal::NothingHere));
}

/// The slow reference: what a path means, segment by segment, for the two shapes of one file and one page.
fn reference(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|raw| !raw.is_empty())
        .map(|raw| percent_decode_str(raw).decode_utf8_lossy().into_owned())
        .collect()
}

/// The one path that every address has.
fn canonical(address: &Address) -> String {
    let prefix = |route: &RouteId| format!("/pypi/{}", if *route == PYTHON { "python" } else { "flask" });
    let below = |file: &FileAddress| format!("simple/{}/{}/{}", file.project, file.version, file.file);
    match address {
        Address::Home => "/".to_owned(),
        Address::Exchange(ExchangeStep::Audience) => "/_/oidc/audience".to_owned(),
        Address::Exchange(ExchangeStep::Mint) => "/_/oidc/mint-token".to_owned(),
        Address::Exchange(ExchangeStep::Burn) => "/_/oidc/burn-token".to_owned(),
        Address::Exchange(ExchangeStep::Discovery) => "/.well-known/pytp".to_owned(),
        Address::Osv(OsvCall::Query) => "/osv/v1/query".to_owned(),
        Address::Osv(OsvCall::QueryBatch) => "/osv/v1/querybatch".to_owned(),
        Address::Osv(OsvCall::Advisory(id)) => format!("/osv/v1/vulns/{id}"),
        Address::Upload { route } => prefix(route),
        Address::List { route } => format!("{}/simple/", prefix(route)),
        Address::Page { route, project } => format!("{}/simple/{project}/", prefix(route)),
        Address::File { route, file } => format!("{}/{}", prefix(route), below(file)),
        Address::Metadata { route, wheel } => format!("{}/{}.metadata", prefix(route), below(wheel)),
        Address::Browse { route, target, form } => {
            let what = match target {
                BrowseTarget::Projects => "projects".to_owned(),
                BrowseTarget::Project { project, version: None } => format!("projects/{project}"),
                BrowseTarget::Project { project, version: Some(version) } => format!("projects/{project}/{version}"),
            };
            format!("{}/{what}{}", prefix(route), if *form == BrowseForm::Json { ".json" } else { "/" })
        }
        Address::Legacy { route, project, version: None } => {
            format!("{}/pypi/{project}/json", prefix(route))
        }
        Address::Legacy { route, project, version: Some(version) } => {
            format!("{}/pypi/{project}/{version}/json", prefix(route))
        }
    }
}

fn spelled(segment: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(0..4u8, segment.len()).prop_map(move |how| {
        segment.bytes().zip(how).fold(String::new(), |mut out, (byte, how)| {
            match how {
                0 => out.extend(format!("%{byte:02X}").chars()),
                1 => out.extend(format!("%{byte:02x}").chars()),
                _ => out.push(char::from(byte)),
            }
            out
        })
    })
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "simple",
            "+simple",
            "projects",
            "search",
            "1.0.json",
            "pypi",
            "legacy",
            "python",
            "flask",
            "Flask",
            "json",
            "1.0",
            "1.0+a",
            "a.whl",
            "a.whl.metadata",
            "_",
            "oidc",
            ".well-known",
            "x_y",
            "X.Y",
        ])
        .prop_flat_map(spelled),
        "[ -~]{0,6}",
        "(%[0-9a-fA-F]{2}){1,3}",
    ]
}

proptest! {
    #[test]
    fn nothing_panics(path in "\\PC{0,64}") {
        let _ = parse(&path, &routes());
    }

    #[test]
    fn two_paths_share_an_address_only_if_they_mean_the_same(
        segments in proptest::collection::vec(segment(), 0..7), slash in any::<bool>()
    ) {
        let path = format!("/{}{}", segments.join("/"), if slash { "/" } else { "" });
        if let Ok(parsed) = parse(&path, &routes()) {
            // The canonical path leads to the same address without a detour ...
            let canonical = canonical(&parsed.address);
            prop_assert_eq!(parse(&canonical, &routes()), Ok(parsed.address.clone().into()), "{}", canonical);
            // ... and differs from this one only in a prefix that has an alias and in the spelling of the project.
            let normal = |path: &str| -> Vec<String> {
                let decoded = reference(path);
                let is_prefix = |segment: &&str| {
                    matches!(*segment, "pypi" | "python" | "legacy" | "simple" | "+simple")
                        || matches!(*segment, "projects" | "search" | "projects.json" | "search.json")
                };
                let kept = decoded.iter().map(String::as_str).filter(|segment| !is_prefix(segment));
                kept.map(|segment| segment.to_lowercase().replace(['_', '.'], "-")).collect()
            };
            let (ours, theirs) = (normal(&canonical), normal(&path));
            prop_assert_eq!(ours, theirs, "{} against {}", canonical, path);
        }
    }
}
