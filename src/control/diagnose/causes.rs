//! The chain of causes of an error, and which part of it a message may repeat.

use std::error::Error;

use crate::redact::hide_secrets;

/// The longest part of a foreign text that a message repeats, in characters.
const MAX_SAID: usize = 400;

pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

pub(super) fn text_of(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What AWS or the SDK said, as far as a message may repeat it.
pub(super) fn said(text: &str) -> String {
    hide_secrets(text, MAX_SAID)
}
