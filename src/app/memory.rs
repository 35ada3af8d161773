//! How the memory of the process is divided: one stated ceiling, from which every part that traffic can fill has a
//! share. Pure, but for the look at the limit that the system sets.

use std::fs;
use std::path::{Path, PathBuf};

use crate::upstream::DEFAULT_MAX_PAGE_SIZE;
use wheelport_runtime::{Size, sabotaged};

/// The ceiling where neither the configuration nor the system says one.
const DEFAULT_CEILING: u64 = 1 << 30;
const SMALLEST_CEILING: u64 = 64 << 20;
/// The program, its tasks, and core metadata, which has a limit of its own.
const BASE: u64 = 32 << 20;
/// The most that all unfinished headers may take.
const MOST_HEADERS: u64 = 32 << 20;
/// The most that connections may take.
const MOST_CONNECTIONS: u64 = 384 << 20;
/// What a connection takes that sends a response to a slow client, with the least buffer; measured.
const PER_CONNECTION: u64 = 20 << 10;
/// What TLS adds to that; measured.
const PER_TLS_CONNECTION: u64 = 28 << 10;
/// The most that larger buffers may take.
const MOST_BUFFERS: u64 = 24 << 20;
/// The default for the memory of the index.
const DEFAULT_INDEX: u64 = 64 << 20;
/// What the largest page takes while it is parsed and rendered, as a multiple of its length; measured.
const PER_PAGE: u64 = 4;

/// The shares, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    pub(super) ceiling: u64,
    /// Records of the index and rendered documents: `[cache] memory`.
    pub(super) index: u64,
    /// Headers that are not complete, over all connections.
    pub(super) headers: u64,
    /// Buffers that files pass through on their way to clients, besides the least one of each connection.
    pub(super) buffers: u64,
    /// The length of the largest page: `[upstream] max_page_size`. It takes [`PER_PAGE`] times as much.
    pub(super) page: u64,
    /// As many connections as have room.
    pub(super) connections: usize,
}

/// What each part may take at most, in bytes.
struct Shares {
    connections: u64,
    headers: u64,
    /// What the others leave: the index, and the largest page with what is made of it.
    rest: u64,
    /// What of the rest is for the largest page, where nothing else is said.
    page: u64,
}

impl Shares {
    fn of(ceiling: u64) -> Self {
        let shared = ceiling - BASE;
        let (connections, headers) = ((shared / 3).min(MOST_CONNECTIONS), (shared / 8).min(MOST_HEADERS));
        Self { connections, headers, rest: shared - connections - headers, page: shared / 4 }
    }

    /// What the index and the largest page may take, if it fits.
    fn fit(&self, index: Option<u64>, page: Option<u64>) -> Option<(u64, u64)> {
        let for_page = page.map_or(self.page, |page| page.saturating_mul(PER_PAGE));
        let left = self.rest.checked_sub(for_page)?;
        let index = index.unwrap_or(DEFAULT_INDEX.min(left));
        let page = page.unwrap_or((self.rest.checked_sub(index)? / PER_PAGE).min(DEFAULT_MAX_PAGE_SIZE.bytes()));
        (index <= left || sabotaged("memory-sum")).then_some((index, page))
    }
}

impl MemoryPlan {
    /// Divides what `[server] memory` states, or three quarters of the system's `limit`. Fails with a sentence that
    /// names the settings if `[cache] memory` (`index`) and `[upstream] max_page_size` (`page`) do not fit. TLS leaves
    /// room for fewer connections.
    pub(super) fn new(
        stated: Option<Size>,
        limit: Option<u64>,
        index: Option<Size>,
        page: Option<Size>,
        is_encrypted: bool,
    ) -> Result<Self, String> {
        let ceiling = stated.map_or_else(|| limit.map_or(DEFAULT_CEILING, |limit| limit / 4 * 3), Size::bytes);
        let of = match (stated, limit) {
            (Some(_), _) => "[server] memory",
            (None, Some(_)) => "three quarters of the memory limit of this process",
            (None, None) => "the default of [server] memory",
        };
        if ceiling < SMALLEST_CEILING {
            return Err(format!("{of} is {}; the least is {}", Size(ceiling), Size(SMALLEST_CEILING)));
        }
        let (shares, [index, page]) = (Shares::of(ceiling), [index, page].map(|size| size.map(Size::bytes)));
        let Some((index, page)) = shares.fit(index, page) else {
            return Err(misfit(ceiling, of, &shares, index, page));
        };
        let Shares { connections, headers, .. } = shares;
        let buffers = (connections / 2).min(MOST_BUFFERS);
        let each = PER_CONNECTION + if is_encrypted { PER_TLS_CONNECTION } else { 0 };
        let connections = usize::try_from((connections - buffers) / each).unwrap_or(usize::MAX);
        Ok(Self { ceiling, index, headers, buffers, page, connections })
    }
}

/// Which settings do not fit, and a ceiling with which they do, in full MiB.
fn misfit(ceiling: u64, of: &str, shares: &Shares, index: Option<u64>, page: Option<u64>) -> String {
    let fits = |mib: u64| Shares::of(mib << 20).fit(index, page).is_some();
    let (mut below, mut needed) = (ceiling >> 20, 1 << 40);
    while below + 1 < needed {
        let middle = u64::midpoint(below, needed);
        *if fits(middle) { &mut needed } else { &mut below } = middle;
    }
    let index = index.map(|index| format!("[cache] memory = {}", Size(index)));
    let page =
        page.map(|page| format!("[upstream] max_page_size = {} (a page takes {PER_PAGE} times that)", Size(page)));
    let names: Vec<&str> = ["[cache] memory", "[upstream] max_page_size"]
        .into_iter()
        .zip([&index, &page])
        .filter_map(|(name, stated)| stated.is_some().then_some(name))
        .collect();
    let what: Vec<String> = index.into_iter().chain(page).collect();
    format!(
        "{} does not fit into {of}, {}, which leaves {} for pages besides connections and headers; lower {}, or set \
         [server] memory to {} or more",
        what.join(" with "),
        Size(ceiling),
        Size(shares.rest >> 20 << 20),
        names.join(" or "),
        Size(needed << 20),
    )
}

/// The memory limit of the control group this process runs in, if there is one. Blocking, and quick.
pub(super) fn system_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_below(Path::new("/sys/fs/cgroup"), &own)
}

/// The least limit of the group that `own` names and of those above it. In a container the group is often the root.
fn limit_below(root: &Path, own: &str) -> Option<u64> {
    let group = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let group = root.join(group);
    let groups = group.ancestors().take_while(|path| path.starts_with(root));
    let mut files: Vec<PathBuf> = groups.map(|group| group.join("memory.max")).collect();
    files.push(root.join("memory/memory.limit_in_bytes"));
    let limits = files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    // The first version of control groups writes a huge number for no limit.
    limits.filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fit_into_every_ceiling() {
        for (mib, each) in (64..4096).step_by(32).flat_map(|mib| [(mib, 0), (mib, PER_TLS_CONNECTION)]) {
            let plan = MemoryPlan::new(Some(Size::mib(mib)), None, None, None, each > 0).expect("defaults fit");
            let connections = plan.connections as u64 * (PER_CONNECTION + each) + plan.buffers;
            let sum = BASE + plan.index + plan.headers + plan.page * PER_PAGE + connections;
            assert!(sum <= plan.ceiling, "{plan:?}");
            assert!(plan.connections >= if each > 0 { 100 } else { 250 } && plan.page >= 2 << 20, "{plan:?}");
        }
        let large = MemoryPlan::new(None, None, None, None, false).expect("the default fits");
        assert!(large.connections >= 10_000 && large.headers == MOST_HEADERS, "{large:?}");
        assert_eq!(large.page, DEFAULT_MAX_PAGE_SIZE.bytes());
    }

    #[test]
    fn ten_thousand_slow_clients_fit_into_a_quarter_of_a_gibibyte() {
        const { assert!(BASE + 10_000 * PER_CONNECTION + MOST_BUFFERS <= 256 << 20) }
    }

    #[test]
    fn the_ceiling_is_what_is_stated_or_part_of_what_the_system_allows() {
        let ceiling = |stated, limit| MemoryPlan::new(stated, limit, None, None, false).map(|plan| plan.ceiling);
        assert_eq!(ceiling(Some(Size::mib(100)), Some(4 << 30)), Ok(100 << 20));
        assert_eq!(ceiling(None, Some(512 << 20)), Ok(384 << 20));
        assert_eq!(ceiling(None, None), Ok(DEFAULT_CEILING));
        assert!(ceiling(None, Some(64 << 20)).is_err_and(|error| error.contains("memory limit of this process")));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_settings_and_a_ceiling_that_works() {
        let (gib, mib) = (Some(Size::gib(1)), |mib| Some(Size::mib(mib)));
        let index = ["[cache] memory = 1GiB", "lower [cache] memory, or"].as_slice();
        let page = ["[upstream] max_page_size = 64MiB", "lower [upstream] max_page_size, or"].as_slice();
        let both = ["= 40MiB with [upstream] max_page_size = 30MiB", "[cache] memory or [upstream] max_page_size"];
        for (stated, parts) in [((gib, None), index), ((None, mib(64)), page), ((mib(40), mib(30)), &both)] {
            let plan = |memory| MemoryPlan::new(memory, None, stated.0, stated.1, false);
            let error = plan(mib(256)).expect_err("too much");
            for part in ["does not fit into [server] memory, 256MiB, which leaves "].iter().chain(parts) {
                assert!(error.contains(part), "{error}");
            }
            let needed = error.split("set [server] memory to ").nth(1).and_then(|rest| rest.split(' ').next());
            let needed: Size = needed.expect("a ceiling").parse().expect("a size");
            assert!(plan(Some(needed)).is_ok(), "{error}");
            assert!(plan(Some(Size(needed.bytes() - (1 << 20)))).is_err(), "{error}");
        }
        let fitting = MemoryPlan::new(mib(256), None, mib(40), mib(20), false).expect("it fits");
        assert_eq!((fitting.index, fitting.page), (40 << 20, 20 << 20));
    }

    #[test]
    fn the_least_limit_of_the_groups_counts() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let (slice, pod) = (root.path().join("a"), root.path().join("a/b"));
        fs::create_dir_all(&pod)?;
        assert_eq!(limit_below(root.path(), "0::/a/b\n"), None);
        fs::write(pod.join("memory.max"), "max\n")?;
        fs::write(slice.join("memory.max"), "1000\n")?;
        assert_eq!(limit_below(root.path(), "0::/a/b\n"), Some(1000));
        fs::write(pod.join("memory.max"), "500\n")?;
        assert_eq!(limit_below(root.path(), "0::/a/b\n"), Some(500));
        assert_eq!(limit_below(root.path(), "0::/\n"), None);
        Ok(())
    }
}
