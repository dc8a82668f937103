//! Mistakes that the cache makes on purpose when a test wants to know whether it would be noticed.
//!
//! Only a build with `--cfg fault_injection` has this module, and makes the mistake that `TASKLIST_MISTAKE` names. It
//! is no Cargo feature: any crate in the graph of a user could switch that on. The published package is without this
//! file. `tests/it/consistency/mistakes.rs` tells for each what comes of it.

/// What one could easily have got wrong.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::enum_variant_names, reason = "each is about a version")]
pub(super) enum Mistake {
    /// A read waits for the build of its list that is under way, whichever version that was begun for.
    ListFlightWithoutVersion,
    /// A list is kept under the version that was asked for, though its query has read a newer one.
    ListUnderAskedVersion,
    /// Keys do not say which version.
    KeyWithoutVersion,
}

impl Mistake {
    /// Returns whether this process makes it.
    pub(super) fn is_made(self) -> bool {
        is_chosen(&self)
    }
}

/// Returns whether a mistake, of the cache's or of a layer over it, is the one that `TASKLIST_MISTAKE` names, and says
/// so.
pub fn is_chosen(mistake: &dyn std::fmt::Debug) -> bool {
    #[expect(clippy::disallowed_methods, reason = "what only tests set is no configuration")]
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("TASKLIST_MISTAKE").ok());
    let is_chosen = CHOSEN.as_deref() == Some(&format!("{mistake:?}"));
    if is_chosen {
        // Whoever wants to know how far it has come cannot see it otherwise.
        tracing::error!(?mistake, "a mistake is made");
    }
    is_chosen
}
