//! What a look-up comes to: at once, or later.

use futures_util::future::BoxFuture;

use super::problem::Problem;
use crate::flow::Lookup;

pub(super) enum Eventual<T> {
    Now(Result<T, Problem>),
    Later(BoxFuture<'static, Result<T, Problem>>),
}

impl<T: Send + 'static> Eventual<T> {
    pub(super) fn later(finding: impl Future<Output = Result<T, Problem>> + Send + 'static) -> Self {
        Self::Later(Box::pin(finding))
    }

    pub(super) fn problem(problem: impl Into<Problem>) -> Self {
        Self::Now(Err(problem.into()))
    }

    pub(super) async fn wait(self) -> Result<T, Problem> {
        match self {
            Self::Now(found) => found,
            Self::Later(finding) => finding.await,
        }
    }

    pub(super) fn map<U: Send + 'static>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Eventual<U> {
        match self {
            Self::Now(found) => Eventual::Now(found.map(map)),
            Self::Later(finding) => Eventual::later(async move { finding.await.map(map) }),
        }
    }
}

impl<T: Send + 'static> From<Lookup<T>> for Eventual<T> {
    fn from(lookup: Lookup<T>) -> Self {
        match lookup {
            Lookup::Hit(hit) => Self::Now(Ok(hit)),
            Lookup::Miss(miss) => Self::later(async move { Ok(miss.await?) }),
        }
    }
}
