//! How many connections there are, of which client, and which of them gives way to a new one.
//!
//! No client may have more than its share, and a client beyond its share, or a server that is full, first closes what
//! is idle: its own longest idle connection, or that of the client that has the most. Only where nothing is idle is a
//! new connection refused. One that was just opened is not idle: its first request may be on its way, and would be cut
//! off without a response. Trusted proxies stand for many clients and have no share; their idle connections go last,
//! because the other end may be about to use one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::connection_phase::{ConnectionPhase, GiveWay, HeaderMemory};
use super::guard::Cidr;
use super::refusal::Refusal;
use crate::telemetry::{GaugeGuard, Metrics};
use wheelport_runtime::{Priority, sabotaged};

/// Bounds of the connections to one or several listeners together.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections at the same time.
    pub total: usize,
    /// Connections of one client at the same time.
    pub per_client: usize,
    /// Proxies, which have no share.
    pub trusted: Vec<Cidr>,
    /// Bytes of unfinished headers, over all connections.
    pub header_bytes: usize,
}

/// The connections there are.
pub struct Connections {
    limits: ConnectionLimits,
    table: Mutex<ConnectionTable>,
    headers: Arc<HeaderMemory>,
    metrics: Metrics,
}

/// How many connections there are, beside how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    Few,
    Some,
    Many,
}

#[derive(Default)]
struct ConnectionTable {
    /// By client, in the order in which they were opened.
    clients: HashMap<Priority, ClientConnections>,
    total: usize,
    opened: u64,
}

#[derive(Default)]
struct ClientConnections {
    trusted: bool,
    open: BTreeMap<u64, ConnectionPhase>,
}

/// The place of one connection; free again when it is dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    client: Priority,
    id: u64,
    phase: ConnectionPhase,
    _counted: GaugeGuard,
}

impl Connections {
    pub fn new(limits: ConnectionLimits, metrics: Metrics) -> Arc<Self> {
        let headers = HeaderMemory::new(limits.header_bytes);
        Arc::new(Self { limits, table: Mutex::default(), headers, metrics })
    }

    /// A place for a new connection, or why there is none.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Seat, Refusal> {
        let peer = peer.to_canonical();
        let trusted = self.limits.trusted.iter().any(|block| block.contains(peer));
        let client = Priority::client(peer);
        let mut table = self.table.lock();
        let own = table.clients.get(&client).map_or(0, |client| client.open.len());
        let (makes_way, refusal) = if !trusted && own >= self.limits.per_client && !sabotaged("address-share") {
            (table.close_idle_of(client), Refusal::TooManyConnectionsOfClient)
        } else if table.total >= self.limits.total && !sabotaged("max-connections") {
            (table.close_idle(), Refusal::TooManyConnections)
        } else {
            return Ok(self.seat(&mut table, client, trusted));
        };
        if makes_way && !sabotaged("idle-give-way") {
            self.metrics.connection_closed_early("idle");
            return Ok(self.seat(&mut table, client, trusted));
        }
        self.metrics.connection_refused(refusal.code());
        Err(refusal)
    }

    fn seat(self: &Arc<Self>, table: &mut ConnectionTable, client: Priority, trusted: bool) -> Seat {
        let phase = ConnectionPhase::new(Arc::clone(&self.headers));
        table.opened += 1;
        table.total += 1;
        let id = table.opened;
        let connections = table.clients.entry(client).or_default();
        connections.trusted = trusted;
        connections.open.insert(id, phase.clone());
        let counted = GaugeGuard::new(&self.metrics.connections);
        Seat { connections: Arc::clone(self), client, id, phase, _counted: counted }
    }

    /// Closes an idle connection, for want of a file descriptor.
    pub(super) fn close_idle(&self) {
        if self.table.lock().close_idle() {
            self.metrics.connection_closed_early("idle");
        }
    }

    /// How crowded it is, which decides how much of the system's memory each may have.
    pub(super) fn crowd(&self) -> Crowd {
        let (total, limit) = (self.table.lock().total, self.limits.total);
        if total > limit / 8 {
            Crowd::Many
        } else if total > limit / 64 {
            Crowd::Some
        } else {
            Crowd::Few
        }
    }

    /// Resolves when unfinished headers take too much memory.
    pub(super) async fn headers_exceeded(&self) {
        self.headers.exceeded().await;
    }

    /// Closes the connections that have been sending headers for the longest, until the rest fits.
    pub(super) fn close_oldest_headers(&self) {
        let mut excess = self.headers.excess();
        if excess == 0 || sabotaged("header-memory") {
            return;
        }
        let table = self.table.lock();
        let open = table.clients.values().flat_map(|client| client.open.values());
        let mut receiving: Vec<_> = open.filter(|phase| phase.is_receiving()).collect();
        receiving.sort_by_key(|phase| phase.since());
        for phase in receiving {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(phase.header_bytes());
            phase.tell(GiveWay::AtOnce);
            self.metrics.connection_closed_early("headers");
        }
    }
}

impl ConnectionTable {
    /// Tells the longest idle connection of this client to end, if there is one.
    fn close_idle_of(&self, client: Priority) -> bool {
        let open = self.clients.get(&client).into_iter().flat_map(|client| client.open.values());
        let idle = open.filter(|phase| phase.is_idle()).min_by_key(|phase| phase.since());
        if let Some(phase) = idle {
            phase.tell(GiveWay::Politely);
        }
        idle.is_some()
    }

    /// Tells the longest idle connection of the client with the most connections to end, if any client has an idle one.
    fn close_idle(&self) -> bool {
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|(_, connections)| {
            (connections.trusted && !sabotaged("proxies-last"), Reverse(connections.open.len()))
        });
        clients.into_iter().any(|(client, _)| self.close_idle_of(*client))
    }
}

impl Seat {
    pub(super) fn phase(&self) -> ConnectionPhase {
        self.phase.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        if let Some(connections) = table.clients.get_mut(&self.client) {
            connections.open.remove(&self.id);
            if connections.open.is_empty() {
                table.clients.remove(&self.client);
            }
        }
        table.total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn connections(total: usize, per_client: usize, header_bytes: usize) -> Arc<Connections> {
        let trusted = vec!["10.0.0.0/8".parse().expect("a block")];
        Connections::new(ConnectionLimits { total, per_client, trusted, header_bytes }, Metrics::default())
    }

    fn seats(connections: &Arc<Connections>, peer: IpAddr, count: usize) -> Vec<Seat> {
        (0..count).map(|_| connections.admit(peer).unwrap_or_else(|refusal| panic!("{refusal}"))).collect()
    }

    fn refused(connections: &Arc<Connections>, peer: IpAddr) -> Option<Refusal> {
        connections.admit(peer).err()
    }

    /// Those that were told to end.
    fn told(seats: &[Seat]) -> Vec<usize> {
        let is_told = |seat: &Seat| futures_util::FutureExt::now_or_never(seat.phase.told()).is_some();
        seats.iter().enumerate().filter(|(_, seat)| is_told(seat)).map(|(position, _)| position).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_share_and_closes_its_own_idle_connections_for_more() {
        let connections = connections(100, 3, 1000);
        let mut greedy = seats(&connections, GREEDY, 3);
        let responding: Vec<_> = greedy.iter().map(|seat| seat.phase.respond()).collect();
        assert_eq!(refused(&connections, GREEDY), Some(Refusal::TooManyConnectionsOfClient));
        drop(seats(&connections, OTHER, 3));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        drop(responding);
        greedy.extend(seats(&connections, GREEDY, 1));
        assert_eq!(told(&greedy), [0]);
        drop(greedy);
        assert_eq!(connections.table.lock().total, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_server_closes_what_the_greediest_client_leaves_idle_and_that_of_proxies_last() {
        let connections = connections(6, 4, 1000);
        let proxy = seats(&connections, PROXY, 3);
        let (greedy, other) = (seats(&connections, GREEDY, 2), seats(&connections, OTHER, 1));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let newcomer = seats(&connections, "192.0.2.9".parse().expect("an address"), 1);
        assert_eq!((told(&greedy).len(), told(&other).len(), told(&proxy).len()), (1, 0, 0));
        let _busy: Vec<_> = greedy.iter().chain(&other).chain(&newcomer).map(|seat| seat.phase.respond()).collect();
        let more = seats(&connections, OTHER, 1);
        assert_eq!(told(&proxy).len(), 1, "there is no other idle one");
        let _proxied: Vec<_> = proxy.iter().map(|seat| seat.phase.respond()).collect();
        let _stalled: Vec<_> = more.iter().map(|seat| seat.phase.stall()).collect();
        assert_eq!(refused(&connections, PROXY), Some(Refusal::TooManyConnections));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_just_opened_has_time_for_its_first_request() {
        let connections = connections(2, 2, 1000);
        let seats = seats(&connections, GREEDY, 2);
        tokio::time::advance(std::time::Duration::from_millis(999)).await;
        assert_eq!(refused(&connections, OTHER), Some(Refusal::TooManyConnections));
        drop(seats[1].phase.respond());
        assert_eq!(refused(&connections, OTHER), None, "one waits for another request");
        assert_eq!(told(&seats), [1]);
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        assert_eq!(refused(&connections, OTHER), None, "one has asked for nothing");
        assert_eq!(told(&seats), [0, 1]);
    }

    #[test]
    fn a_crowd_begins_long_before_all_places_are_taken() {
        let connections = connections(128, 128, 1000);
        let crowds: Vec<_> = (0..3).map(|_| (seats(&connections, OTHER, 1), connections.crowd())).collect();
        assert_eq!(crowds.iter().map(|(_, crowd)| *crowd).collect::<Vec<_>>(), [Crowd::Few, Crowd::Few, Crowd::Some]);
        let _more = seats(&connections, OTHER, 13);
        assert_eq!(connections.crowd(), Crowd::Some);
        let _one = seats(&connections, OTHER, 1);
        assert_eq!(connections.crowd(), Crowd::Many);
    }

    #[tokio::test(start_paused = true)]
    async fn proxies_have_no_share_and_an_ipv6_network_has_one_together() {
        let connections = connections(100, 2, 1000);
        let _proxy = seats(&connections, PROXY, 10);
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let taken: Vec<_> = (1..3).flat_map(|last| seats(&connections, address(last), 1)).collect();
        let _busy: Vec<_> = taken.iter().map(|seat| seat.phase.respond()).collect();
        assert_eq!(refused(&connections, address(9)), Some(Refusal::TooManyConnectionsOfClient));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_unfinished_headers_give_way_first() {
        let connections = connections(100, 100, 1000);
        let seats = seats(&connections, GREEDY, 4);
        for seat in &seats {
            seat.phase.received(300);
            seat.phase.await_headers();
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        connections.headers_exceeded().await;
        connections.close_oldest_headers();
        assert_eq!(told(&seats), [0]);
        drop(seats);
        assert_eq!(connections.headers.excess(), 0);
        let seats = self::seats(&connections, GREEDY, 4);
        for seat in &seats {
            seat.phase.received(300);
        }
        assert_eq!(connections.headers.excess(), 0, "they may be complete");
        for seat in &seats {
            seat.phase.await_headers();
            drop(seat.phase.respond());
        }
        connections.close_oldest_headers();
        assert!(told(&seats).is_empty(), "headers that are complete do not count");
    }
}
