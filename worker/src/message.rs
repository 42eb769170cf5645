//! What crosses from one worker to another.

use types::{Branch, Fence, Pass};

/// What a worker gets from another one.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A run on its way, from the stage before.
    Hidden {
        /// The job.
        fence: Fence,
        /// The run.
        pass: Pass,
        /// The residual `[tokens, dim]`.
        values: Vec<f32>,
    },
    /// A run that is through, from the last stage to the lead.
    Velocity {
        /// The job.
        fence: Fence,
        /// The run's chunk.
        chunk: u32,
        /// The run's step.
        step: u32,
        /// The run's branch.
        branch: Branch,
        /// The velocity `[channels, pixels]`.
        values: Vec<f32>,
    },
}

impl Message {
    /// The job that the message is about.
    pub fn fence(&self) -> Fence {
        match self {
            Self::Hidden { fence, .. } | Self::Velocity { fence, .. } => *fence,
        }
    }
}

/// What a worker has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// To the next stage of the message's job.
    Next(Message),
    /// To the lead of the message's job.
    Lead(Message),
    /// A chunk's clean frames, to the chunk log and the decoder.
    Clean {
        /// The job.
        fence: Fence,
        /// The chunk.
        chunk: u32,
        /// f32 `[channels, pixels]`, normalised.
        values: Vec<f32>,
    },
    /// The job cannot go on here; it is closed.
    Failed {
        /// The job.
        fence: Fence,
        /// Why, a sentence for the user.
        problem: String,
    },
}
