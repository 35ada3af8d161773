//! Faults that a test injects into the control plane.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::fault::CallFault;
use super::operation::Operation;

/// Errors that the control plane returns instead of responses. A test injects them; each is returned once. Clones share
/// one queue.
#[derive(Debug, Clone, Default)]
pub struct FaultQueue {
    waiting: Arc<Mutex<HashMap<Operation, VecDeque<CallFault>>>>,
}

impl FaultQueue {
    /// Lets the next request for `operation` fail with `fault`. Several faults are returned in the order they came.
    pub fn inject(&self, operation: Operation, fault: CallFault) {
        self.waiting.lock().entry(operation).or_default().push_back(fault);
    }

    pub(super) fn take(&self, operation: Operation) -> Option<CallFault> {
        self.waiting.lock().get_mut(&operation)?.pop_front()
    }
}
