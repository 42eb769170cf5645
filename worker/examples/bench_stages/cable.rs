//! A cable between the halves of a pipeline: two network namespaces with a pair of
//! virtual Ethernet devices, as fast as it is told to be.
//!
//! ```text
//!  flstages-0  10.77.1.1 ═══ tbf, both directions ═══ 10.77.1.2  flstages-1
//! ```
//!
//! Invariant: nothing of it is left once it is dropped, and what a run before has left
//! is removed first.

use std::process::{Command, Stdio};

const NAMESPACES: [&str; 2] = ["flstages-0", "flstages-1"];
const ADDRESSES: [&str; 2] = ["10.77.1.1", "10.77.1.2"];
/// What runs a command there.
const PREFIXES: [[&str; 4]; 2] =
    [["ip", "netns", "exec", NAMESPACES[0]], ["ip", "netns", "exec", NAMESPACES[1]]];
/// The device's name, in either namespace.
const DEVICE: &str = "cable";
/// Bytes that may pass at once above the rate, at least; one part of a message.
const BURST_BYTES_MIN: f64 = 16384.0;
/// How long the bucket lasts at the rate.
const BURST_SECONDS: f64 = 5e-4;

/// The cable.
pub(crate) struct Cable(());

impl Cable {
    /// Lays a cable.
    ///
    /// # Errors
    ///
    /// What to do, if this process may not.
    pub(crate) fn lay() -> Result<Self, String> {
        remove();
        let cable = Self(());
        for namespace in NAMESPACES {
            ip(&["netns", "add", namespace])?;
        }
        let [own, other] = NAMESPACES;
        let pair = ["type", "veth", "peer", "name", DEVICE, "netns", other];
        ip(&[&["link", "add", DEVICE, "netns", own], &pair[..]].concat())?;
        for (namespace, address) in NAMESPACES.into_iter().zip(ADDRESSES) {
            let address = format!("{address}/24");
            ip(&["-n", namespace, "addr", "add", &address, "dev", DEVICE])?;
            ip(&["-n", namespace, "link", "set", DEVICE, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(cable)
    }

    /// Makes it so fast, in both directions.
    ///
    /// # Errors
    ///
    /// What to do, if this process may not.
    pub(crate) fn shape(&self, megabits: u32) -> Result<(), String> {
        let bytes_per_second = f64::from(megabits) * 125e3;
        let burst = BURST_BYTES_MIN.max(bytes_per_second * BURST_SECONDS);
        let (rate, burst) = (format!("{megabits}mbit"), format!("{burst:.0}"));
        for namespace in NAMESPACES {
            let place = ["-n", namespace, "qdisc", "replace", "dev", DEVICE, "root"];
            let shape = ["tbf", "rate", &rate, "burst", &burst, "latency", "100ms"];
            succeed(Command::new("tc").args(place).args(shape))?;
        }
        Ok(())
    }

    /// What to put before a command that is to run at one of its ends.
    pub(crate) fn prefix(&self, end: usize) -> &'static [&'static str] {
        &PREFIXES[end]
    }

    /// The address of one of its ends.
    pub(crate) fn address(&self, end: usize) -> &'static str {
        ADDRESSES[end]
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        remove();
    }
}

fn remove() {
    for namespace in NAMESPACES {
        // Most often there is none.
        let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    succeed(Command::new("ip").args(arguments))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{command:?} failed: a cable needs root")),
        Err(error) => Err(format!("{command:?}: {error}: a cable needs iproute2")),
    }
}
