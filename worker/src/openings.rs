//! Jobs that are to be opened, and the contexts that they wait for: both come by
//! ways of their own, in any order.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use types::{Branch, Fence};

use crate::{Context, Opening, wire};

/// Jobs that may wait; the oldest is forgotten for a newer one.
const WAITING_MAX: usize = 64;
/// Contexts of one job.
const CONTEXTS_MAX: usize = 256;

/// A job to be opened.
#[derive(Clone, Debug)]
pub struct Order {
    /// The job.
    pub opening: Opening,
    /// What it is made under.
    pub contexts: Vec<ContextUse>,
}

/// A context of a job, by what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextUse {
    /// The first chunk that is made under it.
    pub from_chunk: u32,
    /// Place in the job's list of prompts.
    pub prompt: u32,
    /// The branch it is for.
    pub branch: Branch,
    /// BLAKE3 of its little-endian values.
    pub digest: [u8; 32],
}

type Reply = oneshot::Sender<Result<(), String>>;

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    waiting: BTreeMap<Fence, Waiting>,
    /// In the order in which they came.
    order: VecDeque<Fence>,
}

#[derive(Debug, Default)]
struct Waiting {
    order: Option<(Order, Reply)>,
    contexts: BTreeMap<(u32, Branch), Received>,
}

#[derive(Debug)]
struct Received {
    digest: [u8; 32],
    values: Vec<f32>,
}

impl Openings {
    /// A job is to be opened.
    pub(crate) fn order(&mut self, order: Order, reply: Reply) {
        let fence = order.opening.fence;
        self.of(fence).order = Some((order, reply));
    }

    /// A context came.
    ///
    /// # Errors
    ///
    /// A sentence if it is not wanted.
    pub(crate) fn context(
        &mut self,
        (fence, prompt, branch): (Fence, u32, Branch),
        payload: &[u8],
    ) -> Result<(), String> {
        let digest = *blake3::hash(payload).as_bytes();
        let values = wire::values(payload)?;
        let contexts = &mut self.of(fence).contexts;
        if CONTEXTS_MAX <= contexts.len() && !contexts.contains_key(&(prompt, branch)) {
            return Err(format!("the job has {CONTEXTS_MAX} contexts already"));
        }
        contexts.insert((prompt, branch), Received { digest, values });
        Ok(())
    }

    /// A job whose contexts are all there.
    pub(crate) fn poll(&mut self) -> Option<(Opening, Vec<Context>, Reply)> {
        let (&fence, _) = self.waiting.iter().find(|(_, waiting)| waiting.is_complete())?;
        self.order.retain(|&other| other != fence);
        let mut waiting = self.waiting.remove(&fence)?;
        let (order, reply) = waiting.order.take()?;
        Some((order.opening, waiting.into_contexts(order.contexts), reply))
    }

    /// The job is not wanted any more.
    pub(crate) fn close(&mut self, fence: Fence) {
        self.order.retain(|&other| other != fence);
        self.waiting.remove(&fence);
    }

    fn of(&mut self, fence: Fence) -> &mut Waiting {
        if !self.waiting.contains_key(&fence) {
            if self.order.len() == WAITING_MAX
                && let Some(oldest) = self.order.pop_front()
                && let Some(Waiting { order: Some((_, reply)), .. }) = self.waiting.remove(&oldest)
            {
                let problem = format!("more than {WAITING_MAX} jobs wait to be opened here");
                drop(reply.send(Err(problem)));
            }
            self.order.push_back(fence);
        }
        self.waiting.entry(fence).or_default()
    }
}

impl Waiting {
    fn is_complete(&self) -> bool {
        let Some((order, _)) = &self.order else { return false };
        order.contexts.iter().all(|wanted| {
            let received = self.contexts.get(&(wanted.prompt, wanted.branch));
            received.is_some_and(|received| received.digest == wanted.digest)
        })
    }

    /// In the order of the chunks.
    fn into_contexts(mut self, mut wanted: Vec<ContextUse>) -> Vec<Context> {
        wanted.sort_by_key(|wanted| wanted.from_chunk);
        let context = |wanted: ContextUse| {
            let values = self.contexts.remove(&(wanted.prompt, wanted.branch))?.values;
            Some(Context { from_chunk: wanted.from_chunk, branch: wanted.branch, values })
        };
        wanted.into_iter().filter_map(context).collect()
    }
}
