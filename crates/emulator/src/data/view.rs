//! What one repository shows of a project: its own versions, those of its upstreams, and the public index's.
//!
//! The first repository in search order that has a version decides about it. Only an imported version continues to take
//! its list of files and yank marks from further behind, as long as it is published or unlisted everywhere on the way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::store::{
    Asset, AssetHashes, PUBLIC_CONNECTION, PackageVersion, RepositoryLayer, Timestamp, VersionMetadata, VersionOrigin,
    VersionStatus,
};
use wheelport_index::Page;

/// A version in the view of one repository.
#[derive(Debug, Clone)]
pub(super) struct ViewedVersion {
    /// The record: retained, or derived from the public index's page.
    pub version: PackageVersion,
    /// The repository that owns the connection it came through; it retains the version, too, once a file is requested.
    pub connected: Option<String>,
    /// Whether the requested repository retains it already.
    pub own: bool,
}

/// All versions by their spelling.
pub(super) type ProjectView = BTreeMap<String, ViewedVersion>;

/// Joins the layers, and behind the connected one the public page.
pub(super) fn join(layers: &[RepositoryLayer], public: Option<&Page>, now: Timestamp) -> ProjectView {
    let mut view = ProjectView::new();
    for (position, layer) in layers.iter().enumerate() {
        for version in layer.package.iter().flat_map(|package| package.versions.values()) {
            let connected = layer.connected.then(|| layer.repository.clone());
            add(&mut view, ViewedVersion { version: version.clone(), connected, own: position == 0 });
        }
        if let (true, Some(page)) = (layer.connected, public) {
            for version in public_versions(page, now) {
                add(&mut view, ViewedVersion { version, connected: Some(layer.repository.clone()), own: false });
            }
        }
    }
    view
}

fn add(view: &mut ProjectView, found: ViewedVersion) {
    match view.entry(found.version.version.clone()) {
        Entry::Vacant(place) => drop(place.insert(found)),
        Entry::Occupied(mut place) => {
            let first = place.get_mut();
            let both_imported = matches!(first.version.origin, VersionOrigin::External { .. })
                && matches!(found.version.origin, VersionOrigin::External { .. });
            let both_live = first.version.status.is_downloadable() && found.version.status.is_downloadable();
            if both_imported && both_live {
                take_over(&mut first.version, found.version);
                first.connected = first.connected.take().or(found.connected);
            }
        }
    }
}

/// Takes the list of files and marks from `newer`; files whose bytes are stored stay so.
fn take_over(version: &mut PackageVersion, newer: PackageVersion) {
    for (name, mut asset) in newer.assets {
        if let Some(known) = version.assets.get(&name)
            && known.stored
            && !asset.stored
        {
            asset = Asset { yanked: asset.yanked, ..known.clone() };
        }
        version.assets.insert(name, asset);
    }
}

fn public_versions(page: &Page, now: Timestamp) -> impl Iterator<Item = PackageVersion> {
    let mut versions: BTreeMap<String, PackageVersion> = BTreeMap::new();
    for file in &page.files {
        let spelling = file.version.as_str().to_owned();
        let version = versions.entry(spelling.clone()).or_insert_with(|| PackageVersion {
            version: spelling,
            revision: String::new(),
            status: VersionStatus::Published,
            published: now,
            origin: VersionOrigin::External { connection: PUBLIC_CONNECTION.to_owned() },
            metadata: VersionMetadata::default(),
            assets: BTreeMap::new(),
        });
        let digest = |name: &str| file.hashes.get(name).map(str::to_owned);
        let asset = Asset {
            name: file.name.clone(),
            size: file.size,
            hashes: AssetHashes {
                md5: digest("md5"),
                sha1: digest("sha1"),
                sha256: digest("sha256"),
                sha512: digest("sha512"),
            },
            recorded: Timestamp::default(),
            upload_time: file.upload_time.clone(),
            requires_python: file.requires_python.clone(),
            yanked: file.yanked.clone(),
            source: file.url.as_deref().cloned(),
            stored: false,
        };
        version.assets.insert(file.name.clone(), asset);
    }
    versions.into_values().map(|mut version| {
        version.renew_revision();
        version
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{OriginRestrictions, Package};
    use wheelport_index::{FileName, ProjectName, Yanked};

    fn asset(name: &str, stored: bool, yanked: Yanked) -> Asset {
        Asset {
            name: FileName::parse(name).expect("the tests name files well"),
            size: None,
            hashes: AssetHashes::default(),
            recorded: Timestamp(0),
            upload_time: None,
            requires_python: None,
            yanked,
            source: None,
            stored,
        }
    }

    fn layer(repository: &str, status: VersionStatus, origin: VersionOrigin, assets: Vec<Asset>) -> RepositoryLayer {
        let version = PackageVersion {
            version: "1.0".to_owned(),
            revision: String::new(),
            status,
            published: Timestamp(0),
            origin,
            metadata: VersionMetadata::default(),
            assets: assets.into_iter().map(|asset| (asset.name.clone(), asset)).collect(),
        };
        let package = Package {
            name: ProjectName::parse("p").expect("a name"),
            restrictions: OriginRestrictions::IMPORTED,
            versions: [("1.0".to_owned(), version)].into(),
        };
        RepositoryLayer { repository: repository.to_owned(), package: Some(package), connected: false }
    }

    fn external() -> VersionOrigin {
        VersionOrigin::External { connection: PUBLIC_CONNECTION.to_owned() }
    }

    #[test]
    fn an_imported_version_takes_over_files_and_yank_marks_and_keeps_its_bytes() {
        let near = layer("a", VersionStatus::Published, external(), vec![asset("p-1.0.tar.gz", true, Yanked::No)]);
        let far = layer(
            "b",
            VersionStatus::Published,
            external(),
            vec![asset("p-1.0.tar.gz", false, Yanked::Yes), asset("p-1.0.zip", false, Yanked::No)],
        );
        let view = join(&[near, far], None, Timestamp(0));
        let found = &view["1.0"];
        let states: Vec<_> = found.version.assets.values().map(|asset| (asset.stored, &asset.yanked)).collect();
        assert_eq!(states, [(true, &Yanked::Yes), (false, &Yanked::No)]);
        assert!(found.own);
    }

    #[test]
    fn a_published_or_archived_version_hides_what_is_behind() {
        for (status, origin) in [
            (VersionStatus::Published, VersionOrigin::Internal { repository: "a".to_owned() }),
            (VersionStatus::Archived, external()),
        ] {
            let near = layer("a", status, origin, vec![asset("p-1.0.tar.gz", true, Yanked::No)]);
            let far = layer("b", VersionStatus::Published, external(), vec![asset("p-1.0.zip", false, Yanked::No)]);
            let view = join(&[near, far], None, Timestamp(0));
            assert_eq!(view["1.0"].version.assets.len(), 1);
            assert_eq!(view["1.0"].version.status, status);
        }
    }
}
