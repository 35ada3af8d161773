//! For whom work is done, so that what is scarce can be shared fairly between those who wait for it.
//!
//! The caller is a property of the task: the inbound edge sets it for each request, [`Tasks`](super::Tasks) hands it on
//! to what a request starts, and whoever shares something out asks for it with [`Priority::current`]. A fill that many
//! clients wait for therefore counts for the one that started it. It decides about turns alone, never about rights.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};

tokio::task_local! {
    static CURRENT: Priority;
}

/// For whom work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// A client, known by its address.
    Client(IpAddr),
    /// Nobody waits for it.
    Background,
}

impl Priority {
    /// The client at this address. A client with IPv6 has a whole network of 64 bits to choose addresses from, so the
    /// network counts.
    pub fn client(address: IpAddr) -> Self {
        Self::Client(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }

    /// For whom the running task works; what no request has started is done for nobody.
    pub fn current() -> Self {
        CURRENT.try_with(|caller| *caller).unwrap_or(Self::Background)
    }

    /// Does a piece of work for this caller.
    pub fn serve<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        CURRENT.scope(self, work)
    }

    /// Starts something for this caller.
    pub fn start<T>(self, starting: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, starting)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::Tasks;

    fn client(text: &str) -> Priority {
        Priority::client(text.parse().expect(text))
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
    }

    #[tokio::test]
    async fn what_a_request_starts_is_done_for_its_client() {
        assert_eq!(Priority::current(), Priority::Background);
        let tasks = Tasks::new();
        let seen_by_a_task = async || {
            let (sender, seen) = oneshot::channel();
            tasks.spawn("test", async move {
                let _ = sender.send(Priority::current());
            });
            seen.await.expect("the task ran")
        };
        let asking = client("10.0.0.1");
        assert_eq!(asking.serve(seen_by_a_task()).await, asking);
        assert_eq!(asking.serve(async { Priority::Background.start(Priority::current) }).await, Priority::Background);
        assert_eq!(seen_by_a_task().await, Priority::Background);
    }
}
