//! Coordinators on the local network, by multicast DNS.
//!
//! A coordinator announces its port and its authority's fingerprint. A worker that
//! was told no address takes the one whose authority it knows, from its token or
//! its certificate; what is announced is believed as far as the handshake goes.

use std::time::{Duration, Instant};

use identity::Fingerprint;
use mdns_sd::{Error, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::host_name;

const SERVICE: &str = "_filmloom._tcp.local.";
/// The property that holds the fingerprint.
const AUTHORITY: &str = "authority";

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

/// Where the coordinator of this authority is, `HOST:PORT`; nothing if it is not
/// heard of in time.
///
/// # Errors
///
/// [`Error`] if the system has no multicast.
pub(super) fn find(authority: Fingerprint, patience: Duration) -> Result<Option<String>, Error> {
    let daemon = ServiceDaemon::new()?;
    let heard = daemon.browse(SERVICE)?;
    let (until, wanted) = (Instant::now() + patience, authority.to_string());
    let mut found = None;
    while let (None, Some(left)) = (&found, until.checked_duration_since(Instant::now())) {
        let Ok(ServiceEvent::ServiceResolved(service)) = heard.recv_timeout(left) else { continue };
        if service.get_property_val_str(AUTHORITY) == Some(wanted.as_str()) {
            let mut addresses: Vec<_> = service.get_addresses_v4().into_iter().collect();
            addresses.sort_unstable();
            found = addresses.first().map(|address| format!("{address}:{}", service.get_port()));
        }
    }
    drop(daemon.shutdown());
    Ok(found)
}
