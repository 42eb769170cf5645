//! What a cluster asks of the shell around it.

use types::{Fence, JobId, NodeId};

use super::Duty;

/// What is to be done.
///
/// Commands to one member are carried out in their order. Only members whose
/// session is open get any; what one missed is said again when it comes back, so a
/// command may come twice and is answered every time.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Measure how fast this member is.
    Profile {
        /// The member.
        node: NodeId,
    },
    /// Give this member what it is to hold. What it had of another pipeline ends, with
    /// all jobs that may still be open on that.
    Assign {
        /// The member.
        node: NodeId,
        /// Number of the pipeline.
        assignment: u64,
        /// What it holds.
        duty: Duty,
    },
    /// This member holds nothing any more, of no job either. One that drains may leave.
    Release {
        /// The member.
        node: NodeId,
    },
    /// Write down that the job is placed under this epoch, then say so.
    Place {
        /// The job.
        fence: Fence,
    },
    /// Encode the job's prompts here.
    Encode {
        /// The member.
        node: NodeId,
        /// The job.
        fence: Fence,
    },
    /// Open the job on this stage.
    Open {
        /// The member.
        node: NodeId,
        /// The job.
        fence: Fence,
        /// The pipeline it is opened on.
        assignment: u64,
    },
    /// Close all that is held of the job here. Closing what is not open is
    /// confirmed too.
    Close {
        /// The member.
        node: NodeId,
        /// The job.
        fence: Fence,
    },
    /// Send a chunk from the log to the decoder. Chunk 0 begins anew, whatever was
    /// decoded of the job before.
    Decode {
        /// The member.
        node: NodeId,
        /// The job.
        fence: Fence,
        /// The chunk.
        chunk: u32,
    },
    /// The job is not what it was: write it down, tell who watches.
    Changed {
        /// The job.
        job: JobId,
    },
}

impl Command {
    /// The member that is to do it, if it is one.
    pub fn node(&self) -> Option<NodeId> {
        match *self {
            Self::Profile { node }
            | Self::Assign { node, .. }
            | Self::Release { node }
            | Self::Encode { node, .. }
            | Self::Open { node, .. }
            | Self::Close { node, .. }
            | Self::Decode { node, .. } => Some(node),
            Self::Place { .. } | Self::Changed { .. } => None,
        }
    }
}
