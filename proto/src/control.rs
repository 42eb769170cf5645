//! What the parts of control messages mean, checked.
//!
//! The messages themselves ([`wire`]) are used as they are generated, once they were
//! checked as a whole ([`from_worker`], [`to_worker`]); here are the conversions of
//! what they are made of.

mod check;
mod member;

use std::ops::Range;

use types::{
    Fence, ModelDigest, NodeId, Sampler, SizedChunk, StepList, TokenGrid, Update,
    wan::{STEPS_MAX, TIMESTEPS},
};

pub use crate::generated::control as wire;
pub use check::{
    FROM_WORKER_BYTES_MAX, JOIN_BYTES_MAX, TO_WORKER_BYTES_MAX, from_worker, to_worker,
};
pub use member::{node_name, offer, probe, speed};

use crate::{
    Malformed,
    field::{self, count, finite, required, within},
};

const LAYERS_MAX: u32 = 1 << 12;
const SIDE_TOKENS_MAX: u32 = 1 << 12;
const ADDRESSES_MAX: usize = 16;
const ADDRESS_CHARACTERS_MAX: usize = 255;

/// A node's id as it is sent.
pub fn node_bytes(node: NodeId) -> Vec<u8> {
    field::node_bytes(node)
}

/// Reads a node's id.
///
/// # Errors
///
/// [`Malformed`] if it has not 16 bytes.
pub fn node(bytes: &[u8]) -> Result<NodeId, Malformed> {
    field::node("node", bytes)
}

/// Reads what tells a process from the one before it.
///
/// # Errors
///
/// [`Malformed`] if it has not 16 bytes.
pub fn boot(bytes: &[u8]) -> Result<u128, Malformed> {
    Ok(u128::from_be_bytes(field::array("boot", bytes)?))
}

/// Reads a model's digest.
///
/// # Errors
///
/// [`Malformed`] if it has not 32 bytes.
pub fn model_digest(bytes: &[u8]) -> Result<ModelDigest, Malformed> {
    field::digest("model digest", bytes)
}

/// Reads a BLAKE3 digest.
///
/// # Errors
///
/// [`Malformed`] if it has not 32 bytes.
pub fn digest(bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    field::array("digest", bytes)
}

impl From<Fence> for wire::Fence {
    fn from(fence: Fence) -> Self {
        Self { job: field::job_bytes(fence.job), epoch: fence.epoch.0 }
    }
}

/// Reads the placement of a job that a message is about.
///
/// # Errors
///
/// [`Malformed`] if it is missing, or names no job.
pub fn fence(fence: Option<wire::Fence>) -> Result<Fence, Malformed> {
    let fence = required("fence", fence)?;
    field::fence(&fence.job, fence.epoch)
}

/// Checks what a worker says it has done.
///
/// # Errors
///
/// [`Malformed`] if a time is negative, or not finite.
pub fn counters(counters: wire::Counters) -> Result<wire::Counters, Malformed> {
    for (field, seconds) in [
        ("counters.compute_seconds", counters.compute_seconds),
        ("counters.wait_seconds", counters.wait_seconds),
        ("counters.decode_seconds", counters.decode_seconds),
        ("counters.text_seconds", counters.text_seconds),
        ("counters.transfer_seconds", counters.transfer_seconds),
    ] {
        within(field, finite(field, seconds)?, 0.0..=f64::MAX)?;
    }
    Ok(counters)
}

impl From<TokenGrid> for wire::Grid {
    fn from(TokenGrid { frames, rows, columns }: TokenGrid) -> Self {
        Self { frames: count(frames), rows: count(rows), columns: count(columns) }
    }
}

/// Reads the tokens of a chunk.
///
/// # Errors
///
/// [`Malformed`] if it is missing, or a side is 0 or larger than any model's.
pub fn grid(grid: Option<wire::Grid>) -> Result<TokenGrid, Malformed> {
    let grid = required("grid", grid)?;
    let side = |field, side| Ok(within(field, side, 1..=SIDE_TOKENS_MAX)? as usize);
    Ok(TokenGrid {
        frames: side("grid.frames", grid.frames)?,
        rows: side("grid.rows", grid.rows)?,
        columns: side("grid.columns", grid.columns)?,
    })
}

impl From<&Range<usize>> for wire::LayerRange {
    fn from(layers: &Range<usize>) -> Self {
        Self { first: count(layers.start), end: count(layers.end) }
    }
}

/// Reads a range of layers, which is not empty.
///
/// # Errors
///
/// [`Malformed`] if it is empty, or longer than any model.
pub fn layers(
    wire::LayerRange { first, end }: wire::LayerRange,
) -> Result<Range<usize>, Malformed> {
    let end = within("layers.end", end, 1..=LAYERS_MAX)?;
    let first = within("layers.first", first, 0..=end - 1)?;
    Ok(first as usize..end as usize)
}

/// Checks the addresses that a node says it listens at.
///
/// # Errors
///
/// [`Malformed`] if there are too many, or one is no `HOST:PORT`.
pub fn addresses(addresses: Vec<String>) -> Result<Vec<String>, Malformed> {
    within("addresses", addresses.len(), 0..=ADDRESSES_MAX)?;
    for address in &addresses {
        within("an address", address.len(), 1..=ADDRESS_CHARACTERS_MAX)?;
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return Err(Malformed::new("an address", format!("is {address:?}, no HOST:PORT")));
        }
    }
    Ok(addresses)
}

impl From<&Sampler> for wire::Sampler {
    fn from(sampler: &Sampler) -> Self {
        let update = match sampler.update {
            Update::Euler => wire::sampler::Update::Euler,
            Update::Renoise => wire::sampler::Update::Renoise,
        };
        Self {
            update: update.into(),
            shift: sampler.shift,
            first_chunk: Some((&sampler.first_chunk).into()),
            later_chunks: Some((&sampler.later_chunks).into()),
        }
    }
}

impl From<&SizedChunk> for wire::SizedChunk {
    fn from(SizedChunk { steps, guidance }: &SizedChunk) -> Self {
        use wire::sized_chunk::Steps;
        let steps = match steps {
            StepList::Even(steps) => Steps::Even(count(*steps)),
            StepList::Warped(times) => Steps::Warped(wire::StepTimes { times: times.clone() }),
            StepList::Listed(times) => Steps::Listed(wire::StepTimes { times: times.clone() }),
        };
        Self { steps: Some(steps), guidance: *guidance }
    }
}

/// Reads a sampler. Whether its steps fall, `plan::passes` says.
///
/// # Errors
///
/// [`Malformed`] if something is missing, too long or not a number.
pub fn sampler(sampler: Option<wire::Sampler>) -> Result<Sampler, Malformed> {
    let sampler = required("sampler", sampler)?;
    let update = match wire::sampler::Update::try_from(sampler.update) {
        Ok(wire::sampler::Update::Euler) => Update::Euler,
        Ok(wire::sampler::Update::Renoise) => Update::Renoise,
        Ok(wire::sampler::Update::Unspecified) | Err(_) => {
            let problem = format!("is {}, which is none", sampler.update);
            return Err(Malformed::new("sampler.update", problem));
        }
    };
    Ok(Sampler {
        update,
        shift: finite("sampler.shift", sampler.shift)?,
        first_chunk: sized_chunk("sampler.first_chunk", sampler.first_chunk)?,
        later_chunks: sized_chunk("sampler.later_chunks", sampler.later_chunks)?,
    })
}

fn sized_chunk(
    field: &'static str,
    chunk: Option<wire::SizedChunk>,
) -> Result<SizedChunk, Malformed> {
    use wire::sized_chunk::Steps;
    let chunk = required(field, chunk)?;
    finite(field, chunk.guidance.into())?;
    let times = |wire::StepTimes { times }: wire::StepTimes| {
        within(field, times.len(), 1..=STEPS_MAX)?;
        times
            .into_iter()
            .map(|time| within(field, time, 0.0..=TIMESTEPS))
            .collect::<Result<Vec<f64>, _>>()
    };
    let steps = match required(field, chunk.steps)? {
        Steps::Even(steps) => StepList::Even(within(field, steps as usize, 1..=STEPS_MAX)?),
        Steps::Warped(list) => StepList::Warped(times(list)?),
        Steps::Listed(list) => StepList::Listed(times(list)?),
    };
    Ok(SizedChunk { steps, guidance: chunk.guidance })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn samplers_come_back_as_they_were(
            shift in 0.1..20.0, guidance in 0.0f32..9.0, even in 1usize..50,
            times in proptest::collection::vec(0.0..1000.0, 1..20), renoise: bool,
        ) {
            let update = if renoise { Update::Renoise } else { Update::Euler };
            let first_chunk = SizedChunk { steps: StepList::Even(even), guidance };
            let list = if renoise { StepList::Listed(times) } else { StepList::Warped(times) };
            let later_chunks = SizedChunk { steps: list, guidance: 1.0 };
            let whole = Sampler { update, shift, first_chunk, later_chunks };

            prop_assert_eq!(sampler(Some((&whole).into())), Ok(whole));
        }
    }

    #[test]
    fn what_no_honest_peer_sends_is_refused_by_field() {
        let refused = |result: Result<(), Malformed>| result.unwrap_err().to_string();
        let empty = layers(wire::LayerRange { first: 3, end: 3 }).map(drop);
        assert!(refused(empty).contains("layers.first"));
        let flat = grid(Some(wire::Grid { frames: 3, rows: 0, columns: 2 })).map(drop);
        assert!(refused(flat).contains("grid.rows"));
        assert!(refused(addresses(vec!["nowhere".into()]).map(drop)).contains("HOST:PORT"));
        assert!(refused(addresses(vec!["a:1".into(); 17]).map(drop)).contains("17"));
        assert!(refused(fence(None).map(drop)).contains("is missing"));
        assert!(refused(node(&[1; 15]).map(drop)).contains("15 bytes"));
        let late = wire::Counters { wait_seconds: -1.0, ..wire::Counters::default() };
        assert!(refused(counters(late).map(drop)).contains("counters.wait_seconds"));
        let endless = wire::Counters { transfer_seconds: f64::NAN, ..wire::Counters::default() };
        assert!(refused(counters(endless).map(drop)).contains("not finite"));
    }
}
