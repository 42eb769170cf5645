//! How fast a hop is, by real transfers.
//!
//! Probes of growing size are sent until one takes long enough to be told from the
//! round trip, so a fast link sees megabytes and a slow one kilobytes. A probe is
//! over when the peer has taken it: what a hidden state sees, too.

use std::time::Duration;

use bytes::Bytes;
use proto::data::{Kind, Message};
use tokio::time::{Instant, timeout};
use types::{Epoch, Fence, JobId, NodeId};

use crate::switchboard::Switchboard;

/// What measuring may take.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(10);
/// Empty probes; the fastest one counts.
const ROUND_TRIPS: usize = 5;
/// A probe that takes so long is the last.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
const PROBE_BYTES_MIN: usize = 64 << 10;
const PROBE_BYTES_MAX: usize = 16 << 20;

/// What was measured in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Bytes of payload a second.
    pub bytes_per_second: f64,
    /// There and back, of an empty message.
    pub round_trip: Duration,
}

/// A hop could not be measured in time: its peer takes nothing, or cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {0} has not taken a probe in time")]
pub struct NotTaken(pub NodeId);

impl Switchboard {
    /// Measures a hop that carries nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// [`NotTaken`] if the peer takes nothing for ten seconds.
    pub async fn measure(&self, peer: NodeId) -> Result<Measured, NotTaken> {
        let measured = timeout(MEASURE_TIMEOUT, self.measure_at_length(peer)).await;
        measured.ok().flatten().ok_or(NotTaken(peer))
    }

    async fn measure_at_length(&self, peer: NodeId) -> Option<Measured> {
        let mut round_trip = self.probe(peer, 0).await?;
        for _ in 1..ROUND_TRIPS {
            round_trip = round_trip.min(self.probe(peer, 0).await?);
        }
        let (mut bytes, bytes_max) = (PROBE_BYTES_MIN, self.me().payload_bytes_max);
        loop {
            let took = self.probe(peer, bytes).await?.saturating_sub(round_trip);
            let is_last = LONG_ENOUGH <= took || PROBE_BYTES_MAX.min(bytes_max) <= bytes;
            if is_last {
                let seconds = took.max(Duration::from_nanos(1)).as_secs_f64();
                return Some(Measured { bytes_per_second: bytes as f64 / seconds, round_trip });
            }
            bytes = (bytes * 4).min(bytes_max);
        }
    }

    /// How long the peer takes to have taken so many bytes.
    async fn probe(&self, peer: NodeId, bytes: usize) -> Option<Duration> {
        let begun = Instant::now();
        let fence = Fence { job: JobId(0), epoch: Epoch(0) };
        let payload = Bytes::from(vec![0; bytes]);
        self.send(peer, Message { fence, kind: Kind::Probe, payload }).ok()?;
        self.settled(peer).await?;
        Some(begun.elapsed())
    }
}
