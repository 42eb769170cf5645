//! Coordinators on the local network, by multicast DNS.
//!
//! A coordinator announces its port and its authority's fingerprint. A worker that
//! was told no address looks for the one whose authority it knows, from its token or
//! its certificate; what is announced is believed as far as the handshake goes.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use identity::Fingerprint;
use mdns_sd::{Error, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::host_name;

const SERVICE: &str = "_filmloom._tcp.local.";
/// The property that holds the fingerprint.
const AUTHORITY: &str = "authority";
/// How long a connection to one of its addresses may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// An announcement, which ends with it.
pub(super) struct Announced(ServiceDaemon);

impl Drop for Announced {
    fn drop(&mut self) {
        // Those that have heard of it forget it after a while.
        drop(self.0.shutdown());
    }
}

/// Announces a coordinator's gRPC on all of this machine's addresses.
///
/// # Errors
///
/// [`Error`] if the system has no multicast; workers need `--join` then.
pub(super) fn announce(port: u16, authority: Fingerprint) -> Result<Announced, Error> {
    let daemon = ServiceDaemon::new()?;
    let name = host_name();
    let host = format!("{name}.local.");
    let properties = [(AUTHORITY, authority.to_string())];
    let info = ServiceInfo::new(SERVICE, &name, &host, "", port, &properties[..])?;
    daemon.register(info.enable_addr_auto())?;
    Ok(Announced(daemon))
}

/// Where the coordinator of this authority may be reached, each `HOST:PORT`: IPv4 first,
/// then IPv6 that is valid beyond a link. Nothing if it is not heard of in time.
///
/// # Errors
///
/// [`Error`] if the system has no multicast.
pub(super) fn find(authority: Fingerprint, patience: Duration) -> Result<Vec<String>, Error> {
    let daemon = ServiceDaemon::new()?;
    let heard = daemon.browse(SERVICE)?;
    let (until, wanted) = (Instant::now() + patience, authority.to_string());
    let mut found = Vec::new();
    while found.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        // Nothing more is heard, in time or at all.
        let Ok(event) = heard.recv_timeout(left) else { break };
        let ServiceEvent::ServiceResolved(service) = event else { continue };
        if service.get_property_val_str(AUTHORITY) == Some(wanted.as_str()) {
            let heard = service.get_addresses().iter().map(ScopedIp::to_ip_addr);
            found = reachable(heard, service.get_port());
        }
    }
    drop(daemon.shutdown());
    Ok(found)
}

/// The first of these that a connection can be opened to; the first of all if there is
/// none yet.
pub(super) fn answering(addresses: Vec<String>) -> Option<String> {
    let answers = |address: &&String| {
        let address = address.parse::<SocketAddr>();
        address.is_ok_and(|at| TcpStream::connect_timeout(&at, ANSWER_PATIENCE).is_ok())
    };
    addresses.iter().find(answers).or(addresses.first()).cloned()
}

/// The addresses that a connection can be opened to without naming a link, in the order
/// in which to try them.
fn reachable(addresses: impl Iterator<Item = IpAddr>, port: u16) -> Vec<String> {
    let mut addresses: Vec<_> = addresses
        .filter(|address| match address {
            IpAddr::V4(address) => !address.is_unspecified(),
            IpAddr::V6(address) => {
                let is_local = address.is_unicast_link_local() || address.is_loopback();
                !is_local && !address.is_unspecified()
            }
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| SocketAddr::new(address, port).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn address_that_answers_is_taken_before_those_that_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().to_string();
        // Its port was free a moment ago.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let taken = |addresses: &[&String]| answering(addresses.iter().copied().cloned().collect());

        assert_eq!(taken(&[&closed, &open]), Some(open.clone()));
        assert_eq!(taken(&[&closed]), Some(closed.clone()));
        assert_eq!(taken(&[]), None);
    }

    #[test]
    fn every_address_is_tried_ipv4_first_and_none_that_needs_a_link() {
        let heard = ["2001:db8::5", "fe80::1", "192.168.1.9", "::1", "10.0.0.2", "fd00::7"];

        let found = reachable(heard.iter().map(|text| text.parse().unwrap()), 7843);

        let expected =
            ["10.0.0.2:7843", "192.168.1.9:7843", "[2001:db8::5]:7843", "[fd00::7]:7843"];
        assert_eq!(found, expected);
    }
}
