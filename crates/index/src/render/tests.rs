//! What is written is read back as the same page, however hostile its strings are; and what strict clients want.

use html5gum::{Token, Tokenizer};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

use super::*;
use crate::digest::Hashes;
use crate::extra::Extra;
use crate::filename::{FileName, VersionSegment};
use crate::keys;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, ProjectList, ProjectStatus, Yanked};
use crate::parse::{self, PageFormat};
use crate::version;

const DIGEST: &str = "9da884457e910bf0847d396cb4b778ad9f3c3d17db1c5997cb861937bd284237";

fn base() -> Url {
    Url::parse("https://index.example.org/pypi/python/simple/friendly-bard/").expect("a valid address")
}

fn project() -> ProjectName {
    ProjectName::parse("Friendly.Bard").expect("a valid name")
}

fn file(name: &str, version: &str) -> File {
    File {
        name: FileName::parse(name).expect("a valid name"),
        version: VersionSegment::parse(version).expect("a valid component"),
        url: None,
        hashes: Hashes::default(),
        requires_python: None,
        size: None,
        upload_time: None,
        yanked: Yanked::No,
        core_metadata: CoreMetadata::Absent,
        gpg_sig: None,
        provenance: None,
        extra: Extra::default(),
    }
}

fn page(files: Vec<File>) -> Page {
    Page {
        name: project(),
        api_version: (1, 0),
        versions: None,
        files,
        status: None,
        meta_extra: Extra::default(),
        extra: Extra::default(),
    }
}

fn unknown(keys: &Value) -> Extra {
    serde_json::from_str(&keys.to_string()).expect("an object")
}

fn sha256(digest: &str) -> Hashes {
    let mut hashes = Hashes::default();
    assert!(hashes.insert("sha256", digest));
    hashes
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

fn full_file() -> File {
    let mut full = file("friendly_bard-1.0+a-py3-none-any.whl", "1.0+a");
    full.hashes = sha256(DIGEST);
    full.requires_python = Some(">=3.8,<4".to_owned());
    full.size = Some(7);
    full.upload_time = Some("2024-05-29T15:37:49.123456Z".to_owned());
    full.yanked = Yanked::Because("it's \"broken\" & <bad>".to_owned());
    full.core_metadata = CoreMetadata::Hashed(sha256(DIGEST));
    full.gpg_sig = Some(false);
    full.provenance = Some(Some("https://index.example.org/p?a&b".to_owned()));
    full.extra = unknown(&json!({"data-new": "x", "later": {"y": null}}));
    full
}

#[test]
fn the_json_of_a_file_in_full_and_in_short() {
    let short = file("friendly-bard-0.9.tar.gz", "0.9");
    assert_eq!(
        value(&json(&page(vec![full_file(), short]))),
        json!({
            "meta": {"api-version": "1.0"}, "name": "friendly-bard", "versions": ["1.0+a", "0.9"],
            "files": [
                {"filename": "friendly_bard-1.0+a-py3-none-any.whl",
                 "url": "1.0+a/friendly_bard-1.0+a-py3-none-any.whl",
                 "hashes": {"sha256": DIGEST}, "requires-python": ">=3.8,<4", "size": 7,
                 "upload-time": "2024-05-29T15:37:49.123456Z", "yanked": "it's \"broken\" & <bad>",
                 "core-metadata": {"sha256": DIGEST}, "gpg-sig": false, "provenance": "https://index.example.org/p?a&b",
                 "data-new": "x", "later": {"y": null}},
                {"filename": "friendly-bard-0.9.tar.gz", "url": "0.9/friendly-bard-0.9.tar.gz",
                 "hashes": {}, "yanked": false},
            ],
        })
    );
}

#[test]
fn the_html_of_a_file_in_full_and_in_short() {
    let mut page = page(vec![full_file(), file("friendly-bard-0.9.tar.gz", "0.9")]);
    page.status = Some(ProjectStatus { status: "archived".to_owned(), reason: Some("a<b".to_owned()) });
    assert_eq!(
        text(html(&page)),
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"pypi:repository-version\" content=\"1.4\">\n\
             <meta name=\"pypi:project-status\" content=\"archived\">\n\
             <meta name=\"pypi:project-status-reason\" content=\"a&lt;b\">\n\
             <title>Links for friendly-bard</title>\n</head>\n<body>\n<h1>Links for friendly-bard</h1>\n\
             <a href=\"1.0+a/friendly_bard-1.0+a-py3-none-any.whl#sha256={DIGEST}\" \
             data-requires-python=\"&gt;=3.8,&lt;4\" \
             data-yanked=\"it&#39;s &quot;broken&quot; &amp; &lt;bad&gt;\" data-core-metadata=\"sha256={DIGEST}\" \
             data-dist-info-metadata=\"sha256={DIGEST}\" data-gpg-sig=\"false\" \
             data-upload-time=\"2024-05-29T15:37:49.123456Z\" \
             data-provenance=\"https://index.example.org/p?a&amp;b\" data-new=\"x\">\
             friendly_bard-1.0+a-py3-none-any.whl</a><br>\n\
             <a href=\"0.9/friendly-bard-0.9.tar.gz\">friendly-bard-0.9.tar.gz</a><br>\n</body>\n</html>\n"
        )
    );
}

#[test]
fn the_announced_version_is_the_highest_that_the_keys_justify() {
    let versions = |page: &Page| {
        let read =
            |format, body: &[u8]| parse::page(format, body, &base(), &project()).expect("a page").page.api_version.1;
        (read(PageFormat::Json, &json(page)), read(PageFormat::Html, &html(page)))
    };
    let mut sized = file("friendly-bard-0.9.tar.gz", "0.9");
    sized.size = Some(1);
    let unsized_file = file("friendly-bard-1.0.tar.gz", "1.0");
    assert_eq!(versions(&page(vec![])), (1, 0));
    assert_eq!(versions(&page(vec![sized.clone()])), (1, 0));

    let mut tracks = page(vec![sized.clone()]);
    tracks.meta_extra = unknown(&json!({"tracks": []}));
    assert_eq!(versions(&tracks), (2, 0));
    let mut alternates = page(vec![sized.clone()]);
    alternates.extra = unknown(&json!({"alternate-locations": []}));
    assert_eq!(versions(&alternates), (2, 0));

    let mut proven = alternates.clone();
    proven.files[0].provenance = Some(None);
    assert_eq!(versions(&proven), (3, 3));
    proven.status = Some(ProjectStatus { status: "active".to_owned(), reason: None });
    assert_eq!(versions(&proven), (4, 4));
    proven.files.push(unsized_file);
    assert_eq!(versions(&proven), (0, 4));
}

#[test]
fn keys_of_ours_are_never_written_from_the_unknown_ones() {
    let mut page = page(vec![file("friendly-bard-0.9.tar.gz", "0.9")]);
    let named = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), json!({"sha256": null}))).collect::<Value>();
    page.files[0].extra = unknown(&named(&[&keys::FILE[..], &["data-yanked"]].concat()));
    page.extra = unknown(&named(&keys::PAGE));
    page.meta_extra = unknown(&named(&keys::META));
    let mut clean = page.clone();
    (clean.extra, clean.meta_extra) = Default::default();
    clean.files[0].extra = Extra::default();
    assert_eq!(html(&page), html(&clean));
    clean.files[0].extra = unknown(&named(&["data-yanked"]));
    assert_eq!(json(&page), json(&clean));
}

#[test]
fn digests_that_installers_fail_on_are_not_shown_alone() {
    let mut odd = file("friendly-bard-0.9.tar.gz", "0.9");
    odd.hashes.insert("blake2b_256", DIGEST);
    odd.core_metadata = CoreMetadata::Hashed(odd.hashes.clone());
    let shown = value(&json(&page(vec![odd.clone()])));
    assert_eq!(shown["files"][0]["hashes"], json!({}));
    assert_eq!(shown["files"][0]["core-metadata"], json!(true));
    let shown = text(html(&page(vec![odd.clone()])));
    assert!(shown.contains(
        "href=\"0.9/friendly-bard-0.9.tar.gz\" data-core-metadata=\"true\" data-dist-info-metadata=\"true\">"
    ));

    odd.hashes.insert("md5", &"00".repeat(16));
    let shown = value(&json(&page(vec![odd.clone()])));
    assert_eq!(shown["files"][0]["hashes"], json!({"blake2b_256": DIGEST, "md5": "00".repeat(16)}));
    assert!(text(html(&page(vec![odd]))).contains(&format!("#md5={}", "00".repeat(16))));
}

#[test]
fn the_project_list_in_both_forms() {
    let list = ProjectList { projects: vec![ProjectName::parse("a").expect("a name"), project()] };
    assert_eq!(
        value(&in_memory(|out| write_list_json(&list, out))),
        json!({"meta": {"api-version": "1.0"}, "projects": [{"name": "a"}, {"name": "friendly-bard"}]})
    );
    let html = text(in_memory(|out| write_list_html(&list, out)));
    assert!(html.contains("<meta name=\"pypi:repository-version\" content=\"1.0\">\n<title>Simple index</title>"));
    assert!(html.contains("<a href=\"a/\">a</a><br>\n<a href=\"friendly-bard/\">friendly-bard</a><br>\n</body>"));
}

#[test]
fn the_older_interface_shows_the_newest_version_that_an_installer_would_take() {
    let mut wheel = full_file();
    wheel.yanked = Yanked::No;
    let mut yanked = file("friendly-bard-2.0.tar.gz", "2.0");
    yanked.yanked = Yanked::Because("no".to_owned());
    let pre = file("friendly-bard-3.0rc1.tar.gz", "3.0rc1");
    let old = file("friendly-bard-1.0.tar.gz", "1.0");
    let page = page(vec![pre.clone(), yanked.clone(), wheel, old]);
    let all = value(&legacy_json(&page, None, "/simple/friendly-bard/").expect("there are versions"));
    assert_eq!(
        all["info"],
        json!({
            "name": "friendly-bard", "version": "1.0+a", "requires_python": ">=3.8,<4",
            "yanked": false, "yanked_reason": null,
        })
    );
    let versions: Vec<&String> = all["releases"].as_object().expect("an object").keys().collect();
    assert_eq!(versions, ["3.0rc1", "2.0", "1.0+a", "1.0"]);
    assert_eq!(
        all["urls"],
        json!([{
            "filename": "friendly_bard-1.0+a-py3-none-any.whl", "size": 7, "digests": {"sha256": DIGEST},
            "url": "/simple/friendly-bard/1.0%2Ba/friendly_bard-1.0%2Ba-py3-none-any.whl", "packagetype": "bdist_wheel",
            "python_version": "py3", "requires_python": ">=3.8,<4", "yanked": false, "yanked_reason": null,
            "upload_time_iso_8601": "2024-05-29T15:37:49.123456Z",
        }])
    );
    let sdist = &all["releases"]["2.0"][0];
    assert_eq!((&sdist["packagetype"], &sdist["python_version"]), (&json!("sdist"), &json!("source")));
    assert_eq!((&sdist["yanked"], &sdist["yanked_reason"]), (&json!(true), &json!("no")));

    let one = value(&legacy_json(&page, Some("2.0.0"), "/simple/friendly-bard").expect("that version is there"));
    assert_eq!((&one["info"]["version"], &one["info"]["yanked_reason"]), (&json!("2.0"), &json!("no")));
    assert_eq!(one["releases"].as_object().map(Map::len), Some(1));
    assert_eq!(legacy_json(&page, Some("9"), "/"), None);

    let newest =
        |files| value(&legacy_json(&self::page(files), None, "/").expect("versions"))["info"]["version"].clone();
    assert_eq!(newest(vec![pre.clone(), yanked.clone()]), json!("3.0rc1"));
    assert_eq!(newest(vec![yanked]), json!("2.0"));
    assert_eq!(legacy_json(&self::page(vec![]), None, "/"), None);
}

// Round trips.

/// Text that tries to get out of wherever it is put.
fn hostile() -> impl Strategy<Value = String> {
    const PIECES: [&str; 22] = [
        "\"",
        "'",
        "<",
        ">",
        "&",
        "&amp;",
        "&gt;=3.9",
        "&#39;",
        "&lt;script&gt;",
        "\"><script>alert(1)</script>",
        "' onmouseover='x",
        "--><a href=x>",
        "</title>",
        "\\",
        "\u{0}",
        "\r\n",
        "\t",
        "\u{7f}\u{85}",
        "é\u{2028}",
        "`=",
        " ",
        "1.0",
    ];
    let piece = prop_oneof![3 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => "\\PC{1,4}"];
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

/// The hostile text as far as a path component may hold it.
fn component() -> impl Strategy<Value = String> {
    hostile().prop_map(|raw| {
        let kept: String = raw.chars().filter(|c| VersionSegment::parse(&format!("x{c}x")).is_ok()).collect();
        format!("x{}", kept.trim())
    })
}

fn file_name() -> impl Strategy<Value = FileName> {
    let ending = proptest::sample::select(&["-1.0-py3-none-any.whl", "-2!1.0+l.tar.gz", ".zip", ".egg"][..]);
    (component(), ending).prop_filter_map("too long", |(stem, ending)| FileName::parse(&format!("{stem}{ending}")).ok())
}

fn some_hashes() -> impl Strategy<Value = Hashes> {
    const DIGESTS: [(&str, usize); 4] = [("blake2b_256", 64), ("md5", 32), ("sha256", 64), ("sha512", 128)];
    proptest::sample::subsequence(&DIGESTS[..], 0..=4).prop_map(|chosen| {
        let mut hashes = Hashes::default();
        for (algorithm, length) in chosen {
            assert!(hashes.insert(algorithm, &"af".repeat(length / 2)));
        }
        hashes
    })
}

fn some_yanked() -> impl Strategy<Value = Yanked> {
    prop_oneof![Just(Yanked::No), Just(Yanked::Yes), hostile().prop_map(Yanked::Because)]
}

fn some_core_metadata() -> impl Strategy<Value = CoreMetadata> {
    prop_oneof![
        Just(CoreMetadata::Absent),
        Just(CoreMetadata::Available),
        some_hashes().prop_filter("digests", |hashes| !hashes.is_empty()).prop_map(CoreMetadata::Hashed),
    ]
}

fn some_extra() -> impl Strategy<Value = Extra> {
    let key = prop_oneof![Just("data-new".to_owned()), Just("data-yanked".to_owned()), hostile()];
    let value = prop_oneof![hostile().prop_map(Value::from), Just(Value::Null), Just(json!({"a": [1, null]}))];
    proptest::collection::vec((key, value), 0..3).prop_map(|entries| unknown(&entries.into_iter().collect()))
}

fn some_file() -> impl Strategy<Value = File> {
    let provenance = prop_oneof![Just(None), Just(Some("https://index.example.org/p?a=<&b=\"'".to_owned()))];
    let facts = (
        proptest::option::of(hostile()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(Just("2024-05-29T15:37:49.123456Z".to_owned())),
        some_yanked(),
        some_core_metadata(),
        proptest::option::of(any::<bool>()),
        proptest::option::of(provenance),
        some_extra(),
    );
    let other_url =
        proptest::option::of(Just(Box::new(Url::parse("https://files.example.org/x").expect("a valid address"))));
    (file_name(), component(), other_url, some_hashes(), facts).prop_filter_map(
        "too long",
        |(name, version, url, hashes, facts)| {
            let (requires_python, size, upload_time, yanked, core_metadata, gpg_sig, provenance, extra) = facts;
            let version = VersionSegment::parse(&version).ok()?;
            Some(File {
                name,
                version,
                url,
                hashes,
                requires_python,
                size,
                upload_time,
                yanked,
                core_metadata,
                gpg_sig,
                provenance,
                extra,
            })
        },
    )
}

fn some_page() -> impl Strategy<Value = Page> {
    let status =
        (hostile(), proptest::option::of(hostile())).prop_map(|(status, reason)| ProjectStatus { status, reason });
    let versions = proptest::option::of(proptest::collection::vec(hostile(), 0..3));
    let files = proptest::collection::vec(some_file(), 0..5);
    (versions, files, proptest::option::of(status), some_extra(), some_extra()).prop_map(
        |(versions, mut files, status, meta_extra, extra)| {
            let mut seen = std::collections::HashSet::new();
            files.retain(|file| seen.insert(file.name.clone()));
            Page { versions, status, meta_extra, extra, ..page(files) }
        },
    )
}

/// What HTML can carry of a text.
fn in_html(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

fn common(hashes: &Hashes) -> bool {
    hashes.iter().any(|(algorithm, _)| algorithm != "blake2b_256")
}

/// The page that has to come back out of the JSON of `page`.
fn through_json(page: &Page) -> Page {
    let mut expected = page.clone();
    expected.versions = Some(version::listed(page).into_iter().map(str::to_owned).collect());
    for file in &mut expected.files {
        file.url = None;
        if !common(&file.hashes) {
            file.hashes = Hashes::default();
        }
        if matches!(&file.core_metadata, CoreMetadata::Hashed(hashes) if !common(hashes)) {
            file.core_metadata = CoreMetadata::Available;
        }
    }
    expected
}

/// The page that has to come back out of the HTML of `page`.
fn through_html(page: &Page) -> Page {
    let best = |hashes: &Hashes| {
        let mut one = Hashes::default();
        for algorithm in ["sha256", "sha512", "md5"] {
            if let (true, Some(digest)) = (one.is_empty(), hashes.get(algorithm)) {
                one.insert(algorithm, digest);
            }
        }
        one
    };
    let mut expected = through_json(page);
    expected.versions = None;
    (expected.extra, expected.meta_extra) = Default::default();
    if let Some(status) = &mut expected.status {
        status.status = in_html(&status.status);
        status.reason = status.reason.as_deref().map(in_html);
    }
    for file in &mut expected.files {
        file.size = None;
        file.hashes = best(&file.hashes);
        file.requires_python = file.requires_python.as_deref().map(in_html);
        if let Yanked::Because(reason) = &file.yanked {
            file.yanked = Yanked::Because(in_html(reason));
        }
        if let CoreMetadata::Hashed(hashes) = &file.core_metadata {
            file.core_metadata = CoreMetadata::Hashed(best(hashes));
        }
        file.provenance = file.provenance.take().flatten().map(Some);
        let keys: Map<String, Value> =
            serde_json::from_value(value(&serde_json::to_vec(&file.extra).expect("JSON"))).expect("an object");
        file.extra = unknown(
            &keys
                .into_iter()
                .filter(|(key, _)| key == "data-new")
                .filter_map(|(key, value)| Some((key, Value::String(in_html(value.as_str()?)))))
                .collect(),
        );
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_brings_back_the_same_page(page in some_page()) {
        let mut read = parse::page(PageFormat::Json, &json(&page), &base(), &project()).expect("our own page").page;
        read.api_version = page.api_version;
        prop_assert_eq!(read, through_json(&page));
    }

    #[test]
    fn html_brings_back_what_it_can_carry(page in some_page()) {
        let mut read = parse::page(PageFormat::Html, &html(&page), &base(), &project()).expect("our own page").page;
        read.api_version = page.api_version;
        prop_assert_eq!(read, through_html(&page));
    }

    #[test]
    fn no_text_escapes_into_markup(page in some_page()) {
        let written = html(&page);
        let mut anchors = 0;
        let mut texts = 0;
        for token in Tokenizer::new(&written) {
            let Ok(token) = token;
            match token {
                Token::StartTag(tag) => {
                    let name = text(tag.name.to_vec());
                    let allowed = ["html", "head", "meta", "title", "body", "h1", "a", "br"].contains(&name.as_str());
                    prop_assert!(allowed, "{}", name);
                    anchors += usize::from(name == "a");
                    for key in tag.attributes.keys() {
                        let key = text(key.to_vec());
                        prop_assert!(
                            key == "data-new" || matches!(
                                (name.as_str(), key.as_str()),
                                ("html", "lang") | ("meta", "charset" | "name" | "content")
                                    | ("a", "href" | "data-requires-python" | "data-yanked" | "data-core-metadata"
                                        | "data-dist-info-metadata" | "data-gpg-sig" | "data-upload-time"
                                        | "data-provenance")
                            ),
                            "{} {}", name, key
                        );
                    }
                }
                Token::String(_) => texts += 1,
                Token::EndTag(_) | Token::Doctype(_) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(anchors, page.files.len());
        prop_assert!(texts > 0);
    }

    #[test]
    fn both_forms_list_the_same_files_in_the_same_order(page in some_page()) {
        let names = |format, body: &[u8]| {
            let read = parse::page(format, body, &base(), &project()).expect("our own page").page;
            read.files.into_iter().map(|file| (file.name, file.version)).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(PageFormat::Json, &json(&page)), names(PageFormat::Html, &html(&page)));
    }

    #[test]
    fn no_cut_page_is_a_shorter_page(page in some_page(), at in any::<prop::sample::Index>()) {
        let read = |format, body: &[u8]| parse::page(format, body, &base(), &project());
        let (html, json) = (html(&page), json(&page));
        let end = html.len() - "</body>\n</html>\n".len();
        prop_assert!(read(PageFormat::Html, &html[..at.index(end)]).is_err());
        prop_assert!(read(PageFormat::Json, &json[..at.index(json.len())]).is_err());
    }

    #[test]
    fn no_input_breaks_the_parser(
        body in hostile(),
        format in prop_oneof![Just(PageFormat::Json), Just(PageFormat::Html)],
    ) {
        let link = format!("<h1>Links for</h1><a href=\"{body}\" data-x='{body}'>");
        let entry = json!({"files": [{"filename": body, "url": body}]}).to_string();
        for text in [body, link, entry] {
            let _ = parse::page(format, text.as_bytes(), &base(), &project());
        }
    }
}
