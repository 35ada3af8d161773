//! What a request's host and path mean.

use percent_encoding::percent_decode_str;

use crate::store::{DomainKey, RepositoryKey};
use wheelport_index::{FileName, ProjectName};

/// What a path of the data plane names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestTarget {
    /// The endpoint itself, where uploads go.
    Endpoint,
    /// The project list, which the service does not have.
    List,
    Page(ProjectName),
    Asset {
        project: ProjectName,
        /// The version, as the path spells it.
        version: String,
        file: FileName,
    },
}

/// Reads host and path; `None` for a path that the service does not have.
pub(super) fn read(host: Option<&str>, path: &str, default: &DomainKey) -> Option<(RepositoryKey, RequestTarget)> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let parts: Vec<String> = path.strip_prefix("/pypi/")?.split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (domain, parts) = match parts.as_slice() {
        ["d", label, rest @ ..] => (DomainKey::from_host_label(label)?, rest),
        rest => (host.and_then(domain_of_host).unwrap_or_else(|| default.clone()), rest),
    };
    let (repository, rest) = parts.split_first()?;
    let target = match rest {
        [] | [""] => RequestTarget::Endpoint,
        ["simple"] | ["simple", ""] => RequestTarget::List,
        ["simple", name] | ["simple", name, ""] => RequestTarget::Page(ProjectName::parse(name).ok()?),
        ["simple" | "packages", name, version, file] => RequestTarget::Asset {
            project: ProjectName::parse(name).ok()?,
            version: (*version).to_owned(),
            file: FileName::parse(file).ok()?,
        },
        _ => return None,
    };
    Some((domain.repository(*repository), target))
}

/// `DOMAIN-OWNER.d.codeartifact.REGION…`
fn domain_of_host(host: &str) -> Option<DomainKey> {
    let (label, rest) = host.split_once(".d.")?;
    rest.starts_with("codeartifact.").then(|| DomainKey::from_host_label(label))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default() -> DomainKey {
        DomainKey::new("111122223333", "demo")
    }

    fn shown(host: Option<&str>, path: &str) -> Option<(String, RequestTarget)> {
        read(host, path, &default()).map(|(key, target)| (key.to_string(), target))
    }

    #[test]
    fn all_three_ways_to_name_a_domain_are_understood() {
        let page = |name| RequestTarget::Page(ProjectName::parse(name).expect("a name"));
        let in_demo = Some(("demo-111122223333/python".to_owned(), page("a-b")));
        assert_eq!(shown(Some("127.0.0.1:8081"), "/pypi/python/simple/A_b"), in_demo);
        let other = Some(("my-corp-444455556666/python".to_owned(), page("a-b")));
        let host = "my-corp-444455556666.d.codeartifact.eu-west-1.example.org";
        assert_eq!(shown(Some(host), "/pypi/python/simple/a.b/"), other);
        assert_eq!(shown(None, "/pypi/d/my-corp-444455556666/python/simple/a-b/"), other);
        assert_eq!(shown(None, "/pypi/d/nonsense/python/simple/a-b/"), None);
    }

    #[test]
    fn targets_are_told_apart() {
        for (path, target) in [
            ("/pypi/python", Some(RequestTarget::Endpoint)),
            ("/pypi/python/", Some(RequestTarget::Endpoint)),
            ("/pypi/python/simple", Some(RequestTarget::List)),
            ("/pypi/python/simple/", Some(RequestTarget::List)),
            ("/pypi/python/flask/json", None),
            ("/pypi/python/simple/a/1.0/..", None),
            ("/simple/a/", None),
        ] {
            assert_eq!(shown(None, path).map(|(_, target)| target), target, "{path}");
        }
        let asset = shown(None, "/pypi/python/simple/torch/2.1.0%2Bcu118/torch-2.1.0%2Bcu118.tar.gz");
        let Some((_, RequestTarget::Asset { version, file, .. })) = asset else { panic!("an asset, not {asset:?}") };
        assert_eq!((version.as_str(), file.as_str()), ("2.1.0+cu118", "torch-2.1.0+cu118.tar.gz"));
    }
}
