//! Which client the running work is for, so that limited resources are shared fairly between clients.
//!
//! The priority is a property of the task. The inbound edge sets it for each request, [`Tasks`](super::Tasks) passes it
//! on to the tasks that a request starts, and a queue reads it with [`Priority::current`]. A download that many clients
//! wait for therefore counts for the client that started it. The priority decides only the order of work, never
//! permissions.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};

tokio::task_local! {
    static CURRENT: Priority;
}

/// Which client work is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// A client, known by its address.
    Client(IpAddr),
    /// No client waits for it.
    Background,
}

impl Priority {
    /// The client at this address. An IPv6 client can choose any address of its 64-bit network, so the network
    /// identifies it.
    pub fn client(address: IpAddr) -> Self {
        Self::Client(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }

    /// The priority of the running task: [`Priority::Background`] unless a request started it.
    pub fn current() -> Self {
        CURRENT.try_with(|priority| *priority).unwrap_or(Self::Background)
    }

    /// Runs a future with this priority.
    pub fn serve<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        CURRENT.scope(self, work)
    }

    /// Calls a function with this priority.
    pub fn start<T>(self, call: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, call)
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
    async fn what_a_request_starts_runs_for_its_client() {
        assert_eq!(Priority::current(), Priority::Background);
        let tasks = Tasks::new();
        let seen_by_a_task = async || {
            let (sender, seen) = oneshot::channel();
            tasks.spawn("test", async move {
                let _ = sender.send(Priority::current());
            });
            seen.await.expect("the task ran")
        };
        let requesting = client("10.0.0.1");
        assert_eq!(requesting.serve(seen_by_a_task()).await, requesting);
        assert_eq!(
            requesting.serve(async { Priority::Background.start(Priority::current) }).await,
            Priority::Background
        );
        assert_eq!(seen_by_a_task().await, Priority::Background);
    }
}
