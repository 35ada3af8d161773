//! One audit line per attempt to publish: who, from where, what, and what came of it.
//!
//! The line is written when the attempt ends, whatever ends it, so that none is missing.

use std::net::IpAddr;
use std::sync::Arc;

use super::Error;
use super::upload::{Arrived, Publication, Receiving};
use wheelport_index::{FileName, ProjectName, Sha256, VersionSegment};

/// The target of the audit lines in the log; a filter such as `wheelport::audit=info` keeps them.
pub(super) const TARGET: &str = "wheelport::audit";

/// One attempt. Dropping it unfinished says that it was broken off.
#[derive(Debug)]
pub struct Attempt {
    route: Arc<str>,
    client: IpAddr,
    request: String,
    credential: Option<Arc<str>>,
    project: Option<ProjectName>,
    version: Option<VersionSegment>,
    file: Option<FileName>,
    content: Option<(Sha256, u64)>,
    finished: bool,
}

impl Attempt {
    /// An attempt through this route, from this address, in the request with this id.
    pub fn new(route: Arc<str>, client: IpAddr, request: String) -> Self {
        let (credential, project, version, file, content) = (None, None, None, None, None);
        Self { route, client, request, credential, project, version, file, content, finished: false }
    }

    /// Whose credential it is.
    pub fn by(&mut self, credential: Arc<str>) {
        self.credential = Some(credential);
    }

    /// What it is about, as far as that has arrived.
    pub fn names(&mut self, receiving: &Receiving) {
        let fields = receiving.fields();
        (self.project, self.version, self.file) = (fields.project(), fields.version(), fields.file());
    }

    /// What arrived.
    pub fn carries(&mut self, arrived: &Arrived) {
        self.content = Some((arrived.spooled.digests.sha256, arrived.spooled.content_length));
    }

    /// The request was refused before the upload reached the repository.
    pub fn refused(mut self, code: &'static str, reason: &str) {
        self.write(code, Some(reason));
        self.finished = true;
    }

    /// What came of it.
    pub fn finish(mut self, outcome: &Result<Publication, Error>) {
        match outcome {
            Ok(publication) => self.write(publication.as_str(), None),
            Err(error) => self.write(error.code(), Some(&error.to_string())),
        }
        self.finished = true;
    }

    fn write(&self, outcome: &'static str, reason: Option<&str>) {
        let sha256 = self.content.map(|(sha256, _)| sha256.to_string());
        tracing::info!(
            target: TARGET,
            request = self.request,
            route = %self.route,
            client = %self.client,
            credential = self.credential.as_deref().unwrap_or("none"),
            project = self.project.as_ref().map(ProjectName::as_str),
            version = self.version.as_ref().map(VersionSegment::as_str),
            file = self.file.as_ref().map(FileName::as_str),
            sha256,
            size = self.content.map(|(_, size)| size),
            outcome,
            reason,
            "upload"
        );
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.finished {
            self.write("broken-off", None);
        }
    }
}
