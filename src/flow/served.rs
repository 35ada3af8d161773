//! How a response came about, in the words of the `Cache-Status` header.

use wheelport_runtime::Role;

/// How a response came about; the words of RFC 9211.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Served {
    /// From the cache, fresh.
    Hit,
    /// From the cache while it is refreshed in the background.
    Revalidating,
    /// From the cache because upstream fails or is slow.
    Stale,
    /// From upstream.
    Miss,
    /// From upstream, through a fetch that another request started.
    Collapsed,
    /// From upstream, without being stored.
    Bypass,
}

impl Served {
    /// The log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidating => "revalidating",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
        }
    }
}

pub(super) const fn role_served(role: Role) -> Served {
    match role {
        Role::Leader => Served::Miss,
        Role::Follower => Served::Collapsed,
    }
}
