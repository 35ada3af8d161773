//! One story for each oddity that an index has been seen to send, or that an attacker would.

use serde_json::{Value, json};

use super::*;
use crate::extra::Extra;
use crate::filename::VersionSegment;
use crate::page::CoreMetadata;
use crate::page::FileAddress;

const BASE: &str = "https://index.example.org/pypi/python/simple/flask/";
const DIGEST: &str = "9da884457e910bf0847d396cb4b778ad9f3c3d17db1c5997cb861937bd284237";

fn base() -> Url {
    Url::parse(BASE).expect("a valid address")
}

fn read(format: PageFormat, body: &str) -> Result<ParsedPage, ParseError> {
    page(format, body.as_bytes(), &base(), &ProjectName::parse("Flask").expect("a valid name"))
}

fn from_json(body: &Value) -> ParsedPage {
    read(PageFormat::Json, &body.to_string()).expect("a page")
}

/// A page of one file with these additional keys.
fn json_file(keys: &Value) -> File {
    let mut entry = json!({"filename": "flask-3.0.tar.gz", "url": "3.0/flask-3.0.tar.gz", "hashes": {}});
    let (Value::Object(entry_map), Value::Object(keys)) = (&mut entry, keys) else { panic!("objects") };
    entry_map.extend(keys.clone());
    let parsed = from_json(&json!({"files": [entry]}));
    assert_eq!(parsed.skipped, 0);
    parsed.page.files.into_iter().next().expect("one file")
}

fn from_html(body: &str) -> ParsedPage {
    read(PageFormat::Html, &format!("<!DOCTYPE html><title>Links for flask</title>{body}")).expect("a page")
}

/// A page of one anchor with these additional attributes.
fn html_file(attributes: &str) -> File {
    let parsed = from_html(&format!("<a href='3.0/flask-3.0.tar.gz' {attributes}>flask</a>"));
    assert_eq!((parsed.page.files.len(), parsed.skipped), (1, 0), "{attributes}");
    parsed.page.files.into_iter().next().expect("one file")
}

fn values(extra: &Extra) -> Value {
    serde_json::to_value(extra).expect("it is JSON")
}

fn names(parsed: &ParsedPage) -> Vec<&str> {
    parsed.page.files.iter().map(|file| file.name.as_str()).collect()
}

fn hashes(pairs: &[(&str, &str)]) -> Hashes {
    let mut hashes = Hashes::default();
    for (algorithm, digest) in pairs {
        assert!(hashes.insert(algorithm, digest));
    }
    hashes
}

#[test]
fn the_html_of_codeartifact_is_read_in_full() {
    let body = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n    <title>Links for flask</title>\n</head>\n\
         <body>\n    <h1>Links for flask</h1>\n\
         <a href=\"0.1/Flask-0.1.tar.gz#sha256={DIGEST}\" data-gpg-sig=\"false\" >Flask-0.1.tar.gz</a>\n    <br/>\n\
         <a href=\"3.0.1/flask-3.0.1.tar.gz#sha256={DIGEST}\" data-requires-python=\"&gt;=3.8\" data-gpg-sig=\"false\" \
         data-upload-time=\"2024-01-18T10:00:00Z\">flask-3.0.1.tar.gz</a>\n    <br/>\n</body>\n</html>\n"
    );
    let ParsedPage { page, skipped, .. } = read(PageFormat::Html, &body).expect("a page");
    assert_eq!((page.name.as_str(), page.api_version, page.versions, skipped), ("flask", (1, 0), None, 0));
    let [first, second] = page.files.as_slice() else { panic!("two files") };
    assert_eq!((first.name.as_str(), first.version.as_str(), &first.url), ("Flask-0.1.tar.gz", "0.1", &None));
    assert_eq!((first.hashes.get("sha256"), first.gpg_sig), (Some(DIGEST), Some(false)));
    assert_eq!((&first.requires_python, &first.upload_time), (&None, &None));
    assert_eq!(second.requires_python.as_deref(), Some(">=3.8"));
    assert_eq!(second.upload_time.as_deref(), Some("2024-01-18T10:00:00Z"));
}

#[test]
fn the_json_of_codeartifact_is_read_in_full() {
    let ParsedPage { page, skipped, .. } = from_json(&json!({
        "meta": {"api-version": "1.1", "_last-serial": 7}, "name": "flask", "versions": ["3.0.1"],
        "later": {"a": [null]},
        "files": [{"filename": "flask-3.0.1.tar.gz", "url": "3.0.1/flask-3.0.1.tar.gz",
            "hashes": {"sha256": DIGEST, "md5": "00".repeat(16)}, "requires-python": ">=3.8", "size": 64928,
            "upload-time": "2024-05-29T15:37:49.123456Z", "yanked": false, "new-key": {"x": 1}}],
    }));
    assert_eq!((page.api_version, skipped), ((1, 1), 0));
    assert_eq!(page.versions, Some(vec!["3.0.1".to_owned()]));
    assert_eq!(values(&page.meta_extra), json!({"_last-serial": 7}));
    assert_eq!(values(&page.extra), json!({"later": {"a": [null]}}));
    let file = &page.files[0];
    assert_eq!((file.size, file.requires_python.as_deref(), &file.yanked), (Some(64928), Some(">=3.8"), &Yanked::No));
    assert_eq!(file.hashes, hashes(&[("sha256", DIGEST), ("md5", &"00".repeat(16))]));
    assert_eq!(values(&file.extra), json!({"new-key": {"x": 1}}));
}

#[test]
fn ill_typed_values_are_left_out_one_by_one() {
    let plain = json_file(&json!({}));
    for keys in [
        json!({"size": null}),
        json!({"size": "64928"}),
        json!({"size": -1}),
        json!({"size": 1.5}),
        json!({"upload-time": null}),
        json!({"upload-time": 1_717_000_000}),
        json!({"upload-time": "yesterday"}),
        json!({"yanked": null}),
        json!({"yanked": 0}),
        json!({"requires-python": null}),
        json!({"requires-python": ""}),
        json!({"requires-python": 3}),
        json!({"hashes": null}),
        json!({"hashes": {"sha256": null, "md5": 5, "sha512": "abc", "sha384": "zz".repeat(48)}}),
        json!({"gpg-sig": "yes"}),
        json!({"gpg-sig": null}),
        json!({"core-metadata": null}),
        json!({"core-metadata": "true"}),
        json!({"core-metadata": false}),
        json!({"provenance": 5}),
        json!({"provenance": "not an address"}),
        json!({"provenance": "javascript:alert(1)"}),
    ] {
        assert_eq!(json_file(&keys), plain, "{keys}");
    }
    let without_hashes =
        from_json(&json!({"files": [{"filename": "flask-3.0.tar.gz", "url": "3.0/flask-3.0.tar.gz"}]}));
    assert_eq!(without_hashes.page.files, [plain]);
}

#[test]
fn page_level_oddities_are_left_out_too() {
    for body in [
        json!({"files": []}),
        json!({"files": [], "meta": null, "name": null, "versions": null, "project-status": null}),
        json!({"files": [], "meta": [], "name": 1, "versions": "1.0", "project-status": {"status": null}}),
        json!({"files": [], "meta": {"api-version": null}, "project-status": {"reason": "because"}}),
    ] {
        let page = from_json(&body).page;
        assert_eq!((page.api_version, page.versions, page.status), ((1, 0), None, None), "{body}");
        assert!(page.extra.is_empty() && page.meta_extra.is_empty(), "{body}");
    }
    let page = from_json(&json!({"files": [], "versions": ["1.0", null, "2.0", 3, "1.0", ""]})).page;
    assert_eq!(page.versions, Some(vec!["1.0".to_owned(), "2.0".to_owned()]));
}

#[test]
fn digests_are_lower_case_well_formed_or_absent() {
    let expected = hashes(&[("sha256", DIGEST)]);
    assert_eq!(json_file(&json!({"hashes": {"sha256": DIGEST.to_uppercase(), "md5": "short"}})).hashes, expected);
    let cases = [
        (format!("sha256={}", DIGEST.to_uppercase()), expected.clone()),
        (format!("md5=short&sha256={DIGEST}"), expected.clone()),
        (format!("egg=flask&sha256={DIGEST}"), expected),
        (format!("md5={}", "ab".repeat(16)), hashes(&[("md5", &"ab".repeat(16))])),
        (format!("sha512={}", "ab".repeat(64)), hashes(&[("sha512", &"ab".repeat(64))])),
        ("sha256=short".to_owned(), Hashes::default()),
        ("sha256".to_owned(), Hashes::default()),
        (String::new(), Hashes::default()),
    ];
    for (fragment, expected) in cases {
        let page = from_html(&format!("<a href='3.0/flask-3.0.tar.gz#{fragment}'>x</a>")).page;
        assert_eq!((&page.files[0].hashes, &page.files[0].url), (&expected, &None), "{fragment}");
    }
}

#[test]
fn a_yank_mark_survives_in_every_spelling() {
    let because = |reason: &str| Yanked::Because(reason.to_owned());
    for (value, expected) in [
        (json!(true), Yanked::Yes),
        (json!("broken & <b>"), because("broken & <b>")),
        (json!("x".repeat(MAX_TEXT + 1)), Yanked::Yes),
        // What is true in the sense of Python is a mark (PEP 691), and what is false is none.
        (json!(1), Yanked::Yes),
        (json!(-0.5), Yanked::Yes),
        (json!(["why"]), Yanked::Yes),
        (json!(false), Yanked::No),
        (json!(null), Yanked::No),
        (json!(""), Yanked::No),
        (json!(0.0), Yanked::No),
        (json!([]), Yanked::No),
        (json!({}), Yanked::No),
    ] {
        assert_eq!(json_file(&json!({"yanked": value})).yanked, expected, "{value}");
    }
    let long = format!("data-yanked='{}'", "x".repeat(MAX_TEXT + 1));
    for (attributes, expected) in [
        ("data-yanked", Yanked::Yes),
        ("data-yanked=''", Yanked::Yes),
        ("DATA-YANKED='broken &amp; &lt;b&gt;'", because("broken & <b>")),
        ("data-yanked=first data-yanked=second", because("first")),
        (long.as_str(), Yanked::Yes),
        ("", Yanked::No),
    ] {
        assert_eq!(html_file(attributes).yanked, expected);
    }
}

#[test]
fn core_metadata_is_read_under_all_its_names_and_the_newest_wins() {
    let hashed = CoreMetadata::Hashed(hashes(&[("sha256", DIGEST)]));
    let digest = json!({"sha256": DIGEST});
    for (keys, expected) in [
        (json!({"core-metadata": true}), CoreMetadata::Available),
        (json!({"core-metadata": digest}), hashed.clone()),
        (json!({"core-metadata": {}}), CoreMetadata::Available),
        (json!({"core-metadata": {"sha256": "short"}}), CoreMetadata::Available),
        (json!({"dist-info-metadata": digest}), hashed.clone()),
        (json!({"data-dist-info-metadata": digest}), hashed.clone()),
        (json!({"dist-info-metadata": true, "core-metadata": digest}), hashed.clone()),
        (json!({"dist-info-metadata": true, "core-metadata": false}), CoreMetadata::Absent),
        (json!({"dist-info-metadata": true, "core-metadata": null}), CoreMetadata::Available),
    ] {
        let file = json_file(&keys);
        assert_eq!(file.core_metadata, expected, "{keys}");
        assert!(file.extra.is_empty(), "{keys}");
    }
    let sha = |name: &str| format!("{name}='sha256={DIGEST}'");
    for (attributes, expected) in [
        ("data-core-metadata=true".to_owned(), CoreMetadata::Available),
        ("data-core-metadata=false".to_owned(), CoreMetadata::Absent),
        ("data-core-metadata=''".to_owned(), CoreMetadata::Absent),
        ("data-core-metadata='sha256=short'".to_owned(), CoreMetadata::Available),
        (sha("data-core-metadata"), hashed.clone()),
        (sha("data-dist-info-metadata"), hashed.clone()),
        (format!("data-dist-info-metadata=true {}", sha("data-core-metadata")), hashed),
    ] {
        let file = html_file(&attributes);
        assert_eq!(file.core_metadata, expected, "{attributes}");
        assert!(file.extra.is_empty(), "{attributes}");
    }
}

#[test]
fn provenance_null_is_not_the_same_as_absence() {
    let address = "https://index.example.org/integrity/flask";
    assert_eq!(json_file(&json!({"provenance": null})).provenance, Some(None));
    assert_eq!(json_file(&json!({"provenance": address})).provenance, Some(Some(address.to_owned())));
    assert_eq!(html_file(&format!("data-provenance='{address}'")).provenance, Some(Some(address.to_owned())));
    assert_eq!(html_file("data-provenance=''").provenance, None);
}

#[test]
fn unknown_attributes_are_kept_under_their_names() {
    let file = html_file("data-new='a&amp;b' data-NEW=again DATA-Other=1 class=x onclick='y' data-= data-q\"uote=1");
    assert_eq!(values(&file.extra), json!({"data-new": "a&b", "data-other": "1"}));
}

#[test]
fn the_first_entry_of_a_name_wins() {
    let entry = |version: &str| json!({"filename": "flask-3.0.tar.gz", "url": format!("{version}/flask-3.0.tar.gz")});
    let parsed = from_json(&json!({"files": [entry("3.0"), entry("3.0.0")]}));
    assert_eq!((parsed.page.files.len(), parsed.skipped), (1, 0));
    assert_eq!(parsed.page.files[0].version.as_str(), "3.0");
}

#[test]
fn entries_without_an_address_are_skipped_and_counted() {
    let parsed = from_json(&json!({"files": [
        null, 5, "text", [], {}, {"filename": "a.whl"}, {"filename": "a.whl", "url": null},
        {"filename": "../../etc/passwd", "url": "x"}, {"filename": "a/b.whl", "url": "1/b.whl"},
        {"filename": ".hidden", "url": "1/.hidden"}, {"filename": "a\u{0}.whl", "url": "1/a.whl"},
        {"filename": 5, "url": "1/a.whl"}, {"filename": "a.whl", "url": "javascript:alert(1)"},
        {"filename": "a.whl", "url": "http://["}, {"url": "1.0/"},
        {"filename": "no-one_can.parse-this", "url": "1.0/no-one_can.parse-this"}, {"url": "1.0/flask-1.0.tar.gz#x"},
    ]}));
    assert_eq!(names(&parsed), ["no-one_can.parse-this", "flask-1.0.tar.gz"]);
    assert_eq!(parsed.skipped, 15);

    let parsed = from_html(
        "<a name=top>no link</a> <a href='../'>up</a> <a href='#top'>top</a> <a href='mailto:a@example.org'>us</a> \
         <a href='help.html'>help</a> <a href='1/a%2Fb.whl'>x</a> <a href='1/%2e%2e'>x</a> <a href='1/a%00.whl'>x</a> \
         <a href='1/a%ff.whl'>x</a> <a href=''>x</a> <a href='1.0/flask-1.0.tar.gz'>file</a> \
         <a href='1.0/flask-1.0.egg'>egg</a> \
         <a href='1.0/odd' data-gpg-sig=false>odd</a> <script>'<a href=1/script.whl>'</script> \
         <!-- <a href=1/c.whl> -->",
    );
    assert_eq!(names(&parsed), ["flask-1.0.tar.gz", "flask-1.0.egg", "odd"]);
    assert_eq!(parsed.skipped, 9);
}

#[test]
fn whatever_lies_where_files_lie_is_a_file_in_either_format() {
    for name in ["odd", "notes.txt", "flask-1.0-variants.json", "strange name (1).bin", "a;b=c&d", "LICENSE.md"] {
        let link = FileAddress {
            project: ProjectName::parse("flask").expect("a valid name"),
            version: VersionSegment::parse("1.0").expect("a valid component"),
            file: FileName::parse(name).expect("a valid name"),
        }
        .relative();
        let html = from_html(&format!("<a href='../{}'>{name}</a>", link.replace('&', "&amp;")));
        let json = from_json(&json!({"files": [{"filename": name, "url": format!("../{link}")}]}));
        assert_eq!(html.page.files, json.page.files, "{name}");
        assert_eq!(names(&html), [name]);
    }
}

#[test]
fn html_without_its_end_is_broken_and_not_shorter() {
    let anchors = "<a href='1.0/flask-1.0.tar.gz'>one</a><a href='2.0/flask-2.0.tar.gz'>two</a>";
    for complete in [
        format!("<html><body><h1>Links for flask</h1>{anchors}</body></html>"),
        format!("<!DOCTYPE html><html><h1>Links for flask</h1>{anchors}</html>\n"),
        format!("<body>{anchors}</body>"),
        // A list without a document around it has no end to miss.
        anchors.to_owned(),
        format!("{anchors}<br>"),
    ] {
        assert_eq!(read(PageFormat::Html, &complete).map(|parsed| parsed.page.files.len()), Ok(2), "{complete}");
    }
    for cut in [
        format!("<html><body><h1>Links for flask</h1>{anchors}"),
        format!("<html><h1>Links for flask</h1>{anchors}<"),
        format!("<html><h1>Links for flask</h1>{anchors}</htm"),
        "<html><h1>Links for flask</h1>".to_owned(),
        format!("<body>{anchors}"),
        format!("{anchors}<a href='3.0/flask-3.0.tar.gz'>th"),
        format!("{anchors}<a href='3.0/flask-3.0.tar.gz"),
        format!("{anchors}<a href"),
    ] {
        assert_eq!(read(PageFormat::Html, &cut), Err(ParseError::Cut), "{cut}");
    }
}

#[test]
fn unknown_keys_are_kept_up_to_a_bound_and_what_is_beyond_is_counted() {
    let numbers = format!("[{}1]", "1,".repeat(MAX_UNKNOWN / 2));
    let body = format!(
        r#"{{"files": [{{"url": "1/flask-1.tar.gz", "a": {numbers}, "b": 2}}], "c": {numbers}, "d": 4,
            "meta": {{"api-version": "1.0", "e": {numbers}, "f": 6}}}}"#
    );
    let parsed = read(PageFormat::Json, &body).expect("a page");
    let found = [&parsed.page.files[0].extra, &parsed.page.extra, &parsed.page.meta_extra].map(values);
    assert_eq!(found, [json!({"b": 2}), json!({"d": 4}), json!({"f": 6})]);
    assert_eq!(parsed.unknown_left_out, 3);
    let value = "x".repeat(MAX_TEXT);
    let entries: Vec<String> =
        (0..2000).map(|number| format!(r#"{{"url": "1/flask-{number}.tar.gz", "a": "{value}"}}"#)).collect();
    let parsed = read(PageFormat::Json, &format!(r#"{{"files": [{}]}}"#, entries.join(","))).expect("a page");
    let weight: usize = parsed.page.files.iter().map(|file| file.extra.weight()).sum();
    assert!(weight <= MAX_UNKNOWN + 2000 && weight + 2 * MAX_TEXT > MAX_UNKNOWN, "{weight}");
    assert!((900..1100).contains(&parsed.unknown_left_out), "{}", parsed.unknown_left_out);
}

#[test]
fn no_list_of_small_things_is_read_without_end() {
    let versions: Vec<String> = (0..=MAX_VERSIONS).map(|number| format!("\"{number}\"")).collect();
    let body = |versions: &[String]| format!(r#"{{"files": [], "versions": [{}]}}"#, versions.join(","));
    let read_versions = |versions: &[String]| read(PageFormat::Json, &body(versions));
    assert_eq!(
        read_versions(&versions[1..]).map(|parsed| parsed.page.versions.map_or(0, |list| list.len())),
        Ok(MAX_VERSIONS)
    );
    assert_eq!(read_versions(&versions), Err(ParseError::TooManyVersions));
    let many: Value = (0..10_000).map(|number| (format!("x{number}"), json!("00"))).collect();
    assert_eq!(json_file(&json!({"hashes": many})).hashes.iter().count(), 16);
}

#[test]
fn a_text_that_is_no_text_costs_only_its_field() {
    let entry =
        r#"{"url": "1/flask-1.tar.gz", "requires-python": "\ud800", "yanked": "\ud800", "size": 1e3, "x": "\ud800"}"#;
    let parsed = read(PageFormat::Json, &format!(r#"{{"files": [{entry}]}}"#)).expect("a page");
    let file = &parsed.page.files[0];
    assert_eq!((&file.requires_python, &file.yanked, file.size), (&None, &Yanked::Yes, None));
    // Of an entry with a key that cannot be read, it is unknown what the rest means.
    let entry = r#"{"url": "1/flask-1.tar.gz", "\ud800": 1, "hashes": {}}"#;
    let parsed = read(PageFormat::Json, &format!(r#"{{"files": [{entry}]}}"#)).expect("a page");
    assert_eq!((parsed.page.files.len(), parsed.skipped), (0, 1));
}

#[test]
fn links_are_read_against_the_base_element_and_placed_against_the_page() {
    let elsewhere =
        from_html("<base href='https://files.example.org/d/'><base href='/x/'><a href='3.0/flask-3.0.tar.gz'>x</a>");
    assert_eq!(
        elsewhere.page.files[0].url.as_deref().map(Url::as_str),
        Some("https://files.example.org/d/3.0/flask-3.0.tar.gz")
    );
    let up = from_html("<base href='../'><a href='flask/3.0/flask-3.0.tar.gz'>x</a>");
    assert_eq!((up.page.files[0].version.as_str(), &up.page.files[0].url), ("3.0", &None));
    let useless = from_html("<base href='javascript:1'><a href=' 3.0/flask-3.0.tar.gz\n'>x</a>");
    assert_eq!((useless.page.files[0].version.as_str(), &useless.page.files[0].url), ("3.0", &None));
}

#[test]
fn the_version_mark_is_believed_and_a_higher_major_refused() {
    for (text, expected) in [
        ("1.0", Ok((1, 0))),
        ("1.4", Ok((1, 4))),
        ("1.99", Ok((1, 99))),
        ("1", Ok((1, 0))),
        ("soon", Ok((1, 0))),
        ("", Ok((1, 0))),
        ("2.0", Err(ParseError::Version { major: 2, minor: 0 })),
        ("2", Err(ParseError::Version { major: 2, minor: 0 })),
    ] {
        let json = json!({"meta": {"api-version": text}, "files": []}).to_string();
        assert_eq!(read(PageFormat::Json, &json).map(|parsed| parsed.page.api_version), expected, "{text}");
        let html = format!("<meta content='{text}' name='pypi:repository-version'>");
        assert_eq!(read(PageFormat::Html, &html).map(|parsed| parsed.page.api_version), expected, "{text}");
    }
}

#[test]
fn the_status_of_a_project_is_read_and_quarantine_hides_files() {
    let status = |status: &str, reason: Option<&str>| project_status(status, reason);
    let page = from_json(&json!({"files": [], "project-status": {"status": "archived", "reason": "done"}})).page;
    assert_eq!(page.status, status("archived", Some("done")));
    let marks = "<meta name='pypi:project-status' content='deprecated'>\
         <meta name='pypi:project-status-reason' content='use &lt;b&gt;'>";
    assert_eq!(from_html(marks).page.status, status("deprecated", Some("use <b>")));
    let entry = json!({"filename": "flask-3.0.tar.gz", "url": "3.0/flask-3.0.tar.gz"});
    let page = from_json(&json!({"files": [entry], "project-status": {"status": "quarantined"}})).page;
    assert_eq!((page.files.len(), page.status), (0, status("quarantined", None)));
}

#[test]
fn a_response_that_is_not_an_index_page_is_an_error() {
    let not_an_index = |format, body: &str| matches!(read(format, body), Err(ParseError::NotAnIndex(_)));
    for body in ["", "  \n", "\u{feff}"] {
        assert_eq!(read(PageFormat::Json, body), Err(ParseError::Empty));
        assert_eq!(read(PageFormat::Html, body), Err(ParseError::Empty));
    }
    for body in ["[]", "null", "\"files\"", "{", "{\"files\": null}", "{\"files\": {}}", "{\"files\": []} x", "<html>"]
    {
        assert!(matches!(read(PageFormat::Json, body), Err(ParseError::Json { .. })), "{body}");
    }
    for body in ["{}", "{\"message\": \"Forbidden\"}", "{\"meta\": {\"api-version\": \"1.0\"}}"] {
        assert!(not_an_index(PageFormat::Json, body), "{body}");
    }
    for body in [
        "<html><title>Log in</title><form action=/login></form></html>",
        "<title>Portal</title><a href='terms.html'>terms</a>",
        "<title>Portal</title><a href='client-1.0.exe'>our client</a><a href='other-1.0.tar.gz'>source</a>",
        "<title>Links for flask</title><a href='/login'>log in</a>",
        "plain text",
        "{\"files\": []}",
    ] {
        assert!(not_an_index(PageFormat::Html, body), "{body}");
    }
}

#[test]
fn an_index_page_is_known_by_its_mark_or_by_its_files() {
    for body in [
        "<title>Links for flask</title>",
        "<h1> LINKS FOR flask</h1>",
        "<title>x</title><h1>Links for flask</h1>",
        "<meta name=pypi:repository-version content=1.0>",
        "\u{feff}<!doctype html><title>Links for flask</title>",
    ] {
        assert_eq!(read(PageFormat::Html, body).map(|parsed| parsed.page.files.len()), Ok(0), "{body}");
    }
    let listing = "<title>Index of /flask</title><a href='../'>up</a><a href='flask-1.0.tar.gz'>flask</a>";
    assert_eq!(read(PageFormat::Html, listing).map(|parsed| parsed.page.files.len()), Ok(1));
}

#[test]
fn size_and_depth_are_bounded() {
    let nested = |levels: usize| format!("{{\"files\": [], \"x\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(PageFormat::Json, &nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(read(PageFormat::Json, &nested(MAX_DEPTH)), Err(ParseError::TooDeep));
    let brackets_in_text = json!({"files": [], "x": "[\"\\[".repeat(MAX_DEPTH)}).to_string();
    assert!(read(PageFormat::Json, &brackets_in_text).is_ok());

    let entries = |count: usize| {
        let list: Vec<String> = (0..count)
            .map(|number| format!("{{\"filename\":\"a{number}.whl\",\"url\":\"1/a{number}.whl\"}}"))
            .collect();
        format!("{{\"files\": [{}]}}", list.join(","))
    };
    assert_eq!(read(PageFormat::Json, &entries(MAX_FILES)).map(|parsed| parsed.page.files.len()), Ok(MAX_FILES));
    assert_eq!(read(PageFormat::Json, &entries(MAX_FILES + 2)), Err(ParseError::TooManyFiles));
    let anchors: Vec<String> = (0..=MAX_FILES).map(|number| format!("<a href=1/a{number}.whl></a>")).collect();
    assert_eq!(read(PageFormat::Html, &anchors.concat()), Err(ParseError::TooManyFiles));
}

#[test]
fn the_entry_of_a_file_is_small_because_a_page_may_have_hundreds_of_thousands() {
    assert!(size_of::<File>() <= 216, "{}", size_of::<File>());
}

#[test]
fn attributes_beyond_the_bounds_count_as_absent_or_empty() {
    let long = "x".repeat(MAX_TEXT + 1);
    assert_eq!(html_file(&format!("data-requires-python='{long}'")).requires_python, None);
    let many: Vec<String> = (0..MAX_ATTRIBUTES).map(|number| format!("data-n{number}=1")).collect();
    let file = html_file(&format!("{} data-yanked=late", many.join(" ")));
    let extra = values(&file.extra);
    assert_eq!((file.yanked, extra.as_object().map(serde_json::Map::len)), (Yanked::No, Some(MAX_ATTRIBUTES - 1)));
}

#[test]
fn a_page_can_be_kept_and_read_again() {
    let page = from_json(&json!({
        "meta": {"api-version": "1.3", "tracks": []}, "versions": ["1.0"],
        "project-status": {"status": "active"}, "x": 1,
        "files": [
            {"filename": "flask-1.0.tar.gz", "url": "https://files.example.org/flask-1.0.tar.gz", "provenance": null,
             "hashes": {"sha256": DIGEST}, "core-metadata": {"sha256": DIGEST}, "yanked": "why", "size": 1, "new": [1]},
            {"filename": "flask-2.0.tar.gz", "url": "2.0/flask-2.0.tar.gz"},
        ],
    }))
    .page;
    let kept = serde_json::to_vec(&page).expect("writing to memory");
    assert_eq!(serde_json::from_slice::<Page>(&kept).expect("what was written"), page);
}
