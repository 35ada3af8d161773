//! Guards that a test build can switch off, one at a time, as in `wheelport-runtime`, which this crate may not use.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` switches guards off; it is for test builds only");

/// Whether this guard is switched off.
#[cfg(not(feature = "sabotage"))]
pub const fn sabotaged(_guard: &'static str) -> bool {
    false
}

/// Whether this guard is the one that `WHEELPORT_SABOTAGE` names.
#[cfg(feature = "sabotage")]
pub fn sabotaged(guard: &'static str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "no setting: it exists in test builds only")]
    let chosen = CHOSEN.get_or_init(|| std::env::var("WHEELPORT_SABOTAGE").ok());
    chosen.as_deref() == Some(guard)
}
