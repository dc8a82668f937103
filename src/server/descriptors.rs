//! How many connections the process has file descriptors for.

/// Fewer than this make no server; better one that meets the limit now and then.
const FEWEST: usize = 16;

/// Raises the number of files that the process may open to what it is allowed to raise it to, and returns that. A
/// shell's own limit, often 1,024, is meant for programs that wait for one file after the other.
pub(super) fn raise_limit() -> u64 {
    rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap_or_else(|error| {
        tracing::warn!("the limit of open files stays as it is: {error}");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
    })
}

/// Returns how many connections can be accepted, so that none takes the descriptor that an answer needs.
pub(super) fn connections(limit: u64, reserved: u64, most: usize) -> usize {
    let left = usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX);
    left.clamp(FEWEST, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_rest_leaves() {
        assert_eq!(connections(256, 100, 8192), 156);
        assert_eq!(connections(20_000, 100, 8192), 8192);
        assert_eq!(connections(u64::MAX, 100, 8192), 8192);
        assert_eq!(connections(64, 100, 8192), FEWEST);
    }
}
