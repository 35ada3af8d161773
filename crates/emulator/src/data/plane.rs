//! The data plane's parts, and the joined view of a project that pages, files and uploads all start from.

use std::sync::Arc;

use super::import::Importer;
use super::object_storage::ObjectStorage;
use super::view::{self, ProjectView};
use crate::public::{PublicError, PublicIndex};
use crate::shared::EmulatorState;
use crate::store::{RepositoryKey, StoreError};
use wheelport_index::ProjectName;
use wheelport_runtime::Tasks;

/// The data plane of one emulator. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DataPlane {
    pub(super) shared: Arc<EmulatorState>,
    pub(super) importer: Importer,
    pub(super) objects: ObjectStorage,
    public: Option<PublicIndex>,
}

impl DataPlane {
    pub(crate) fn new(shared: Arc<EmulatorState>, public: Option<PublicIndex>, tasks: Tasks) -> Self {
        let importer = Importer::new(Arc::clone(&shared), public.clone(), tasks.clone());
        let objects = ObjectStorage::new(Arc::clone(&shared), tasks);
        Self { shared, importer, objects, public }
    }

    /// The joined view of a project, and the public index's failure if it failed meanwhile.
    pub(super) async fn view(
        &self,
        key: &RepositoryKey,
        project: &ProjectName,
    ) -> Result<(ProjectView, Option<PublicError>), StoreError> {
        let layers = self.shared.store.layers(key, project)?;
        let (page, failure) = match &self.public {
            Some(public) if layers.iter().any(|layer| layer.connected) => {
                let page = public.page(project).await;
                self.shared.stats.public_requests(public.take_requests());
                match page {
                    Ok(page) => (page, None),
                    Err(error) => {
                        tracing::warn!(%project, %error, "the public index is unavailable");
                        (None, Some(error))
                    }
                }
            }
            _ => (None, None),
        };
        Ok((view::join(&layers, page.as_deref(), self.shared.store.now()), failure))
    }
}
