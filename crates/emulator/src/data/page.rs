//! The emulator's own page writer and negotiation: byte for byte what the service sends.
//!
//! These differ from the proxy's pages on purpose, so nothing is shared with the proxy's renderer.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::view::ProjectView;
use crate::oddities::{Oddities, UrlForm};
use crate::store::{Asset, AssetHashes, PackageVersion, Timestamp, VersionOrigin};
use wheelport_index::render::Escaped;
use wheelport_index::{ProjectName, Yanked, media};

/// What a page is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageMediaType {
    /// JSON as in PEP 691.
    Json,
    /// HTML under its versioned type.
    VersionedHtml,
    Html,
}

impl PageMediaType {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => media::JSON_V1,
            Self::VersionedHtml => media::HTML_V1,
            Self::Html => "text/html; charset=UTF-8",
        }
    }
}

/// The media type that an `Accept` header selects; `None` is 406.
pub(super) fn negotiate(accept: Option<&str>, json_on: bool) -> Option<PageMediaType> {
    let Some(accept) = accept.filter(|text| !text.trim().is_empty()) else { return Some(PageMediaType::Html) };
    let mut best: Option<(f32, PageMediaType)> = None;
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            media::JSON_V1 | media::JSON_LATEST if json_on => PageMediaType::Json,
            media::HTML_V1 | media::HTML_LATEST => PageMediaType::VersionedHtml,
            media::TEXT_HTML | "text/*" | "*/*" => PageMediaType::Html,
            _ => continue,
        };
        let quality =
            parts.find_map(|parameter| parameter.strip_prefix("q=")?.trim().parse::<f32>().ok()).unwrap_or(1.0);
        if quality > 0.0 && best.is_none_or(|(found, _)| quality > found) {
            best = Some((quality, media_type));
        }
    }
    best.map(|(_, media_type)| media_type)
}

/// What a page depends on besides the versions.
pub(super) struct PageContext<'a> {
    pub project: &'a ProjectName,
    pub oddities: &'a Oddities,
    /// This moment; published files younger than the index lag are left out.
    pub now: Timestamp,
    /// `http://HOST/pypi/REPO/simple/NAME/`, for absolute addresses.
    pub page_url: &'a str,
}

impl PageContext<'_> {
    fn is_visible(&self, version: &PackageVersion, asset: &Asset) -> bool {
        let lag = u64::try_from(self.oddities.index_lag.0.as_millis()).unwrap_or(u64::MAX);
        let hosted = matches!(version.origin, VersionOrigin::Internal { .. });
        let lag = if hosted { lag } else { 0 };
        version.status.is_listed() && asset.recorded.0.saturating_add(lag) <= self.now.0
    }

    fn address(&self, version: &PackageVersion, asset: &Asset) -> String {
        let path = format!("{}/{}", escape_path(&version.version), escape_path(asset.name.as_str()));
        match self.oddities.urls {
            UrlForm::Relative => path,
            UrlForm::Packages => format!("../../packages/{}/{path}", self.project),
            UrlForm::Absolute => format!("{}{path}", self.page_url),
        }
    }
}

/// The files of a page in the order the service lists them, or `None` if there is none to show.
pub(super) fn visible<'a>(
    view: &'a ProjectView,
    context: &PageContext<'_>,
) -> Option<Vec<(&'a PackageVersion, &'a Asset)>> {
    let files: Vec<_> = view
        .values()
        .flat_map(|found| found.version.assets.values().map(|asset| (&found.version, asset)))
        .filter(|(version, asset)| context.is_visible(version, asset))
        .collect();
    (!files.is_empty()).then_some(files)
}

pub(super) fn html(files: &[(&PackageVersion, &Asset)], context: &PageContext<'_>) -> String {
    let name = context.project;
    let mut page = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n    <title>Links for {name}</title>\n</head>\n\
         <body>\n    <h1>Links for {name}</h1>\n"
    );
    for (version, asset) in files {
        let _ = write!(page, "    <a href=\"{}", escape(&context.address(version, asset)));
        if let Some(digest) = &asset.hashes.sha256 {
            let _ = write!(page, "#sha256={digest}");
        }
        page.push('"');
        if let Some(requires) = &asset.requires_python {
            let _ = write!(page, " data-requires-python=\"{}\"", escape(requires));
        }
        page.push_str(" data-gpg-sig=\"false\"");
        match &asset.yanked {
            Yanked::No => {}
            Yanked::Yes => page.push_str(" data-yanked=\"\""),
            Yanked::Because(reason) => {
                let _ = write!(page, " data-yanked=\"{}\"", escape(reason));
            }
        }
        if let (true, Some(time)) = (context.oddities.html_upload_time, &asset.upload_time) {
            let _ = write!(page, " data-upload-time=\"{}\"", escape(time));
        }
        let _ = write!(page, " >{}</a>\n    <br/>\n", escape(asset.name.as_str()));
    }
    page.push_str("</body>\n</html>\n");
    page
}

pub(super) fn json(files: &[(&PackageVersion, &Asset)], context: &PageContext<'_>) -> Vec<u8> {
    let mut versions: Vec<&str> = files.iter().map(|(version, _)| version.version.as_str()).collect();
    versions.dedup();
    let files: Vec<Value> = files.iter().map(|(version, asset)| entry(version, asset, context)).collect();
    let page = json!({
        "meta": {"api-version": "1.1"},
        "name": context.project.as_str(),
        "versions": versions,
        "files": files,
    });
    page.to_string().into_bytes()
}

fn entry(version: &PackageVersion, asset: &Asset, context: &PageContext<'_>) -> Value {
    let hosted = matches!(version.origin, VersionOrigin::Internal { .. });
    let mut hashes = Map::new();
    let AssetHashes { sha256, md5, sha512, .. } = &asset.hashes;
    for (name, digest, shown) in
        [("sha256", sha256, true), ("md5", md5, true), ("sha512", sha512, hosted && context.oddities.sha512)]
    {
        if let (Some(digest), true) = (digest, shown) {
            hashes.insert(name.to_owned(), digest.clone().into());
        }
    }
    let mut file = Map::new();
    file.insert("filename".to_owned(), asset.name.as_str().into());
    file.insert("url".to_owned(), context.address(version, asset).into());
    file.insert("hashes".to_owned(), hashes.into());
    if let Some(requires) = &asset.requires_python {
        file.insert("requires-python".to_owned(), requires.clone().into());
    }
    if let (true, Some(size)) = (context.oddities.sizes, asset.size) {
        file.insert("size".to_owned(), size.into());
    }
    if let (true, Some(time)) = (context.oddities.upload_time, &asset.upload_time) {
        file.insert("upload-time".to_owned(), time.clone().into());
    }
    let yanked = match &asset.yanked {
        Yanked::No => Value::Bool(false),
        Yanked::Yes => Value::Bool(true),
        Yanked::Because(reason) => reason.clone().into(),
    };
    file.insert("yanked".to_owned(), yanked);
    Value::Object(file)
}

fn escape(text: &str) -> String {
    Escaped(text).to_string()
}

/// Percent-encodes one path component; `+`, `!` and `~` stay, as in the service's addresses.
fn escape_path(component: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'+')
        .remove(b'!');
    percent_encoding::utf8_percent_encode(component, KEEP).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::{VersionMetadata, VersionStatus};
    use wheelport_index::FileName;

    const PIP: &str =
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";

    #[test]
    fn accept_is_negotiated_as_documented() {
        let latest = media::JSON_LATEST;
        for (accept, form) in [
            (None, Some(PageMediaType::Html)),
            (Some(""), Some(PageMediaType::Html)),
            (Some("*/*"), Some(PageMediaType::Html)),
            (Some(PIP), Some(PageMediaType::Json)),
            (Some(latest), Some(PageMediaType::Json)),
            (Some(media::HTML_LATEST), Some(PageMediaType::VersionedHtml)),
            (Some("text/html;q=0, application/json"), None),
            (Some("application/json"), None),
        ] {
            assert_eq!(negotiate(accept, true), form, "{accept:?}");
        }
        assert_eq!(negotiate(Some(PIP), false), Some(PageMediaType::VersionedHtml));
        assert_eq!(negotiate(Some(latest), false), None);
    }

    fn flask() -> (PackageVersion, Asset) {
        let asset = Asset {
            name: FileName::parse("flask-3.0.1.tar.gz").expect("a file name"),
            size: Some(7),
            hashes: AssetHashes {
                md5: Some("aa".to_owned()),
                sha1: Some("bb".to_owned()),
                sha256: Some("6489".to_owned()),
                sha512: Some("cc".to_owned()),
            },
            recorded: Timestamp(0),
            upload_time: Some("2024-01-18T19:00:00.000000Z".to_owned()),
            requires_python: Some(">=3.8".to_owned()),
            yanked: Yanked::No,
            source: None,
            stored: false,
        };
        let version = PackageVersion {
            version: "3.0.1".to_owned(),
            revision: String::new(),
            status: VersionStatus::Published,
            published: Timestamp(0),
            origin: VersionOrigin::External { connection: "public:pypi".to_owned() },
            metadata: VersionMetadata::default(),
            assets: BTreeMap::new(),
        };
        (version, asset)
    }

    fn context<'a>(project: &'a ProjectName, oddities: &'a Oddities) -> PageContext<'a> {
        let page_url = "http://h/pypi/r/simple/flask/";
        PageContext { project, oddities, now: Timestamp(1), page_url }
    }

    #[test]
    fn html_is_the_services_to_the_byte() {
        let (version, asset) = flask();
        let (project, oddities) = (ProjectName::parse("flask").expect("a name"), Oddities::default());
        let expected = "<!DOCTYPE html>\n<html>\n<head>\n    <title>Links for flask</title>\n</head>\n\
            <body>\n    <h1>Links for flask</h1>\n    \
            <a href=\"3.0.1/flask-3.0.1.tar.gz#sha256=6489\" data-requires-python=\"&gt;=3.8\" data-gpg-sig=\"false\" \
            >flask-3.0.1.tar.gz</a>\n    <br/>\n</body>\n</html>\n";
        assert_eq!(html(&[(&version, &asset)], &context(&project, &oddities)), expected);
    }

    #[test]
    fn json_shows_sha512_only_for_hosted_files() {
        let (mut version, asset) = flask();
        let (project, mut oddities) = (ProjectName::parse("flask").expect("a name"), Oddities::default());
        let imported = concat!(
            r#"{"meta":{"api-version":"1.1"},"name":"flask","versions":["3.0.1"],"#,
            r#""files":[{"filename":"flask-3.0.1.tar.gz","url":"3.0.1/flask-3.0.1.tar.gz","#,
            r#""hashes":{"sha256":"6489","md5":"aa"},"requires-python":">=3.8","size":7,"#,
            r#""upload-time":"2024-01-18T19:00:00.000000Z","yanked":false}]}"#,
        );
        let text = |version: &PackageVersion, oddities: &Oddities| {
            String::from_utf8(json(&[(version, &asset)], &context(&project, oddities))).unwrap_or_default()
        };
        assert_eq!(text(&version, &oddities), imported);
        version.origin = VersionOrigin::Internal { repository: "r".to_owned() };
        assert!(text(&version, &oddities).contains(r#""hashes":{"sha256":"6489","md5":"aa","sha512":"cc"}"#));
        oddities.urls = UrlForm::Packages;
        oddities.sizes = false;
        let odd = text(&version, &oddities);
        assert!(odd.contains(r#""url":"../../packages/flask/3.0.1/flask-3.0.1.tar.gz""#) && !odd.contains("size"));
    }
}
