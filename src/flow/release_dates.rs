//! When the releases of a project began: the earliest moment at which one of their files was there. Pure.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::policy::Moment;
use wheelport_index::{File, VersionSegment};

/// By version.
pub(super) struct ReleaseDates(HashMap<VersionSegment, Moment, RandomState>);

impl ReleaseDates {
    pub(super) fn of(files: &[File]) -> Self {
        let mut dates: HashMap<VersionSegment, Moment, RandomState> = HashMap::default();
        for file in files {
            let Some(uploaded) = file.upload_time.as_deref().and_then(|time| Moment::parse(time).ok()) else {
                continue;
            };
            let began = dates.entry(file.version.clone()).or_insert(uploaded);
            *began = uploaded.min(*began);
        }
        Self(dates)
    }

    pub(super) fn began(&self, file: &File) -> Option<Moment> {
        self.0.get(&file.version).copied()
    }
}
