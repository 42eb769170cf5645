//! Messages between two nodes, in frames.
//!
//! ```text
//!  Message ── frames() ──▶ Head, Part, Part, ... ── Assembly ──▶ Message
//! ```
//!
//! A payload is never copied on its way out: parts are slices of it. On its way in
//! it is put together once, in a buffer whose size was checked against what the
//! receiver allows.

pub mod framing;

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut, buf::Limit};
use types::{Branch, Fence, Incarnation, ModelDigest, NodeId, Pass, PassKind};

use crate::{
    Malformed, PART_BYTES_MAX,
    field::{self, finite, required, within},
    generated::data as wire,
};
pub use wire::{Frame, frame};

/// Chunks of a job, frames of a chunk, tokens of a chunk, sides of a picture: no
/// honest peer names more.
const CHUNKS_MAX: u32 = 1 << 24;
const FRAMES_MAX: usize = 1 << 10;
const TOKENS_MAX: usize = 1 << 24;
const SIDE_MAX: u32 = 1 << 14;
const STEPS_MAX: u32 = 1 << 10;
const PICTURES_MAX: u32 = 1 << 12;

/// What one node tells another about a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The job and its placement.
    pub fence: Fence,
    /// What it is.
    pub kind: Kind,
    /// Its values, little-endian; empty where the kind has none.
    pub payload: Bytes,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A run on its way to the next stage: the residual, f32 `[tokens, dim]`.
    Hidden {
        /// The run.
        pass: Pass,
    },
    /// A run that is through, for the lead: f32 `[channels, pixels]`.
    Velocity {
        /// The run's chunk.
        chunk: u32,
        /// The run's step.
        step: u32,
        /// The run's branch.
        branch: Branch,
    },
    /// Clean frames for the chunk log: f32 `[channels, frames, rows, columns]`.
    Clean {
        /// The chunk.
        chunk: u32,
    },
    /// All chunks up to this one are in the log.
    Durable {
        /// The chunk.
        chunk: u32,
    },
    /// What a prompt became: f32 `[text_len, dim]`.
    Context {
        /// Place in the job's list of prompts.
        prompt: u32,
        /// The branch it is for.
        branch: Branch,
    },
    /// Clean frames to decode: f32 `[channels, frames, rows, columns]`.
    Decode {
        /// The chunk.
        chunk: u32,
        /// Rows of the frame tensor.
        rows: u32,
        /// Columns of the frame tensor.
        columns: u32,
    },
    /// Decoded pictures: RGB8, one after the other.
    Pictures {
        /// The chunk.
        chunk: u32,
        /// How many.
        count: u32,
        /// Picture width.
        width: u32,
        /// Picture height.
        height: u32,
        /// What decoding them took.
        decode_seconds: f64,
    },
    /// Bytes without meaning, to measure the link.
    Probe,
}

/// One end of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// How each side begins a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions it speaks.
    pub versions: RangeInclusive<u32>,
    /// Who it is.
    pub from: End,
    /// Whom it means.
    pub to: NodeId,
    /// The model it works with.
    pub model: ModelDigest,
    /// Its numeric class, by name.
    pub class: String,
    /// Messages it has taken from the other side.
    pub taken: u64,
}

impl Message {
    /// The frames that carry it, as the hop's message of this number.
    pub fn frames(&self, number: u64) -> impl Iterator<Item = Frame> + use<> {
        let head = wire::Head {
            number,
            job: field::job_bytes(self.fence.job),
            epoch: self.fence.epoch.0,
            kind: Some(to_wire(&self.kind)),
            bytes: self.payload.len() as u64,
        };
        let payload = self.payload.clone();
        let parts = (0..payload.len()).step_by(PART_BYTES_MAX).map(move |start| {
            let end = payload.len().min(start + PART_BYTES_MAX);
            frame::Kind::Part(wire::Part { data: payload.slice(start..end) })
        });
        [frame::Kind::Head(head)].into_iter().chain(parts).map(frame)
    }
}

/// A frame of this kind.
pub fn frame(kind: frame::Kind) -> Frame {
    Frame { kind: Some(kind) }
}

/// Puts messages together again.
#[derive(Debug)]
pub struct Assembly {
    payload_bytes_max: usize,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    number: u64,
    fence: Fence,
    kind: Kind,
    bytes: usize,
    payload: BytesMut,
}

impl Assembly {
    /// Nothing has come yet; a payload may have so many bytes.
    pub fn new(payload_bytes_max: usize) -> Self {
        Self { payload_bytes_max, begun: None }
    }

    /// A message begins. Gives it with its number if that was all of it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if a field is not what it must be, the payload is larger than
    /// allowed, or another message is not complete. End the hop.
    pub fn head(&mut self, head: wire::Head) -> Result<Option<(u64, Message)>, Malformed> {
        if self.begun.is_some() {
            return Err(Malformed::new("head", "came before the last message was complete"));
        }
        let fence = field::fence(&head.job, head.epoch)?;
        let kind = from_wire(required("kind", head.kind)?)?;
        let bytes = field::size("bytes", head.bytes)?;
        let bytes = within("bytes", bytes, 0..=self.payload_bytes_max)?;
        check_size(&kind, bytes)?;
        let payload = BytesMut::with_capacity(bytes);
        self.begun = Some(Begun { number: head.number, fence, kind, bytes, payload });
        Ok(self.complete())
    }

    /// Whether a message has begun that is not complete.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// A message goes on. Gives it with its number if that was the last of it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if no message is on its way or the part is too long for it.
    pub fn part(&mut self, part: &wire::Part) -> Result<Option<(u64, Message)>, Malformed> {
        self.room(part.data.len())?.put_slice(&part.data);
        Ok(self.complete())
    }

    /// Where the next bytes of the message go, for who reads them there without a
    /// buffer between; as many of them make a part.
    ///
    /// # Errors
    ///
    /// As [`Assembly::part`].
    pub fn room(&mut self, part_bytes: usize) -> Result<Limit<&mut BytesMut>, Malformed> {
        let begun = self.begun.as_mut().ok_or_else(|| Malformed::new("part", "has no head"))?;
        let missing = begun.bytes - begun.payload.len();
        within("data", part_bytes, 1..=missing.min(PART_BYTES_MAX))?;
        Ok((&mut begun.payload).limit(part_bytes))
    }

    /// The message with its number, if all of it came.
    pub fn complete(&mut self) -> Option<(u64, Message)> {
        let begun = self.begun.take_if(|begun| begun.payload.len() == begun.bytes)?;
        let Begun { number, fence, kind, payload, .. } = begun;
        Some((number, Message { fence, kind, payload: payload.freeze() }))
    }
}

/// Refuses a payload whose size is not what its message says of it.
fn check_size(kind: &Kind, bytes: usize) -> Result<(), Malformed> {
    let product = |sides: &[u32]| sides.iter().map(|&side| u64::from(side)).product::<u64>();
    let found = bytes as u64;
    let (is_right, unit) = match *kind {
        Kind::Pictures { count, width, height, .. } => {
            let pictures = product(&[count, width, height, 3]);
            (found == pictures, pictures)
        }
        Kind::Decode { rows, columns, .. } => {
            let pixels = product(&[rows, columns, 4]);
            (0 < found && found.is_multiple_of(pixels), pixels)
        }
        Kind::Hidden { .. }
        | Kind::Velocity { .. }
        | Kind::Clean { .. }
        | Kind::Durable { .. }
        | Kind::Context { .. }
        | Kind::Probe => (true, 0),
    };
    match is_right {
        true => Ok(()),
        false => Err(Malformed::new("bytes", format!("is {found}, of which {unit} are a whole"))),
    }
}

impl From<End> for wire::End {
    fn from(End { node, incarnation }: End) -> Self {
        Self { node: field::node_bytes(node), incarnation: incarnation.0 }
    }
}

impl TryFrom<Option<wire::End>> for End {
    type Error = Malformed;

    fn try_from(end: Option<wire::End>) -> Result<Self, Malformed> {
        let wire::End { node, incarnation } = required("from", end)?;
        Ok(Self { node: field::node("from.node", &node)?, incarnation: Incarnation(incarnation) })
    }
}

impl From<Hello> for wire::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            oldest_version: *hello.versions.start(),
            newest_version: *hello.versions.end(),
            from: Some(hello.from.into()),
            to: field::node_bytes(hello.to),
            model_digest: hello.model.0.to_vec(),
            numeric_class: hello.class,
            taken: hello.taken,
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = Malformed;

    fn try_from(hello: wire::Hello) -> Result<Self, Malformed> {
        Ok(Self {
            versions: hello.oldest_version..=hello.newest_version,
            from: hello.from.try_into()?,
            to: field::node("to", &hello.to)?,
            model: field::digest("model_digest", &hello.model_digest)?,
            class: field::text("numeric_class", hello.numeric_class, 64)?,
            taken: hello.taken,
        })
    }
}

fn to_wire(kind: &Kind) -> wire::head::Kind {
    use wire::head::Kind as Wire;
    match *kind {
        Kind::Hidden { ref pass } => Wire::Hidden(wire::Hidden {
            chunk: pass.chunk,
            step: pass.step,
            branch: branch_to_wire(pass.branch),
            kind: pass_kind_to_wire(pass.kind),
            frame_times: pass.frame_times.clone(),
            first_token: pass.tokens.start as u64,
            end_token: pass.tokens.end as u64,
        }),
        Kind::Velocity { chunk, step, branch } => {
            let branch = branch_to_wire(branch);
            Wire::Velocity(wire::Velocity { chunk, step, branch })
        }
        Kind::Clean { chunk } => Wire::Clean(wire::Clean { chunk }),
        Kind::Durable { chunk } => Wire::Durable(wire::Durable { chunk }),
        Kind::Context { prompt, branch } => {
            let unconditional = branch == Branch::Unconditional;
            Wire::Context(wire::Context { prompt_index: prompt, unconditional })
        }
        Kind::Decode { chunk, rows, columns } => {
            Wire::Decode(wire::Decode { chunk, rows, columns })
        }
        Kind::Pictures { chunk, count, width, height, decode_seconds } => {
            Wire::Pictures(wire::Pictures { chunk, count, width, height, decode_seconds })
        }
        Kind::Probe => Wire::Probe(wire::Probe {}),
    }
}

fn from_wire(kind: wire::head::Kind) -> Result<Kind, Malformed> {
    use wire::head::Kind as Wire;
    let chunk = |chunk| within("chunk", chunk, 0..=CHUNKS_MAX);
    Ok(match kind {
        Wire::Hidden(hidden) => Kind::Hidden { pass: pass_from_wire(hidden)? },
        Wire::Velocity(velocity) => Kind::Velocity {
            chunk: chunk(velocity.chunk)?,
            step: within("step", velocity.step, 0..=STEPS_MAX)?,
            branch: branch_from_wire(velocity.branch)?,
        },
        Wire::Clean(clean) => Kind::Clean { chunk: chunk(clean.chunk)? },
        Wire::Durable(durable) => Kind::Durable { chunk: chunk(durable.chunk)? },
        Wire::Context(wire::Context { prompt_index, unconditional }) => {
            let branch = if unconditional { Branch::Unconditional } else { Branch::Conditional };
            Kind::Context { prompt: within("prompt_index", prompt_index, 0..=CHUNKS_MAX)?, branch }
        }
        Wire::Decode(decode) => Kind::Decode {
            chunk: chunk(decode.chunk)?,
            rows: within("rows", decode.rows, 1..=SIDE_MAX)?,
            columns: within("columns", decode.columns, 1..=SIDE_MAX)?,
        },
        Wire::Pictures(pictures) => Kind::Pictures {
            chunk: chunk(pictures.chunk)?,
            count: within("count", pictures.count, 1..=PICTURES_MAX)?,
            width: within("width", pictures.width, 1..=SIDE_MAX)?,
            height: within("height", pictures.height, 1..=SIDE_MAX)?,
            decode_seconds: finite("decode_seconds", pictures.decode_seconds)?,
        },
        Wire::Probe(wire::Probe {}) => Kind::Probe,
    })
}

fn pass_from_wire(hidden: wire::Hidden) -> Result<Pass, Malformed> {
    within("frame_times", hidden.frame_times.len(), 1..=FRAMES_MAX)?;
    for &time in &hidden.frame_times {
        within("frame_times", time, 0.0..=1000.0)?;
    }
    let end = field::size("end_token", hidden.end_token)?;
    let end = within("end_token", end, 1..=TOKENS_MAX)?;
    let first = field::size("first_token", hidden.first_token)?;
    let first = within("first_token", first, 0..=end - 1)?;
    Ok(Pass {
        chunk: within("chunk", hidden.chunk, 0..=CHUNKS_MAX)?,
        step: within("step", hidden.step, 0..=STEPS_MAX)?,
        branch: branch_from_wire(hidden.branch)?,
        kind: pass_kind_from_wire(hidden.kind)?,
        frame_times: hidden.frame_times,
        tokens: first..end,
    })
}

fn branch_to_wire(branch: Branch) -> i32 {
    match branch {
        Branch::Conditional => wire::Branch::Conditional.into(),
        Branch::Unconditional => wire::Branch::Unconditional.into(),
    }
}

fn branch_from_wire(branch: i32) -> Result<Branch, Malformed> {
    match wire::Branch::try_from(branch) {
        Ok(wire::Branch::Conditional) => Ok(Branch::Conditional),
        Ok(wire::Branch::Unconditional) => Ok(Branch::Unconditional),
        Ok(wire::Branch::Unspecified) | Err(_) => {
            Err(Malformed::new("branch", format!("is {branch}, which is none")))
        }
    }
}

fn pass_kind_to_wire(kind: PassKind) -> i32 {
    match kind {
        PassKind::Denoise => wire::PassKind::Denoise.into(),
        PassKind::Commit => wire::PassKind::Commit.into(),
        PassKind::Rerun => wire::PassKind::Rerun.into(),
    }
}

fn pass_kind_from_wire(kind: i32) -> Result<PassKind, Malformed> {
    match wire::PassKind::try_from(kind) {
        Ok(wire::PassKind::Denoise) => Ok(PassKind::Denoise),
        Ok(wire::PassKind::Commit) => Ok(PassKind::Commit),
        Ok(wire::PassKind::Rerun) => Ok(PassKind::Rerun),
        Ok(wire::PassKind::Unspecified) | Err(_) => {
            Err(Malformed::new("pass kind", format!("is {kind}, which is none")))
        }
    }
}

#[cfg(test)]
mod tests;
