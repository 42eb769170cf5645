//! One plan in terms of members: who holds what, how fast that is, what fits.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range};

use types::NodeId;

use super::{
    Policy,
    candidates::{CANDIDATES_MAX, candidates},
    members::Members,
};
use crate::placement::{
    self, Classes, Error, Links, Objective, Placement, Plan, Request, Stage, Work, Worker,
};

/// What a member holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// Its layers.
    pub layers: Option<Range<usize>>,
    /// Whether it encodes text.
    pub text: bool,
    /// Whether it decodes.
    pub decoder: bool,
    /// Who holds the layers behind its own.
    pub next: Option<NodeId>,
    /// Who holds layer 0, if it holds the last layer and not the first.
    pub lead: Option<NodeId>,
}

/// A plan and whom it is about.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) duties: BTreeMap<NodeId, Duty>,
    /// Jobs of the policy's work that it has room for.
    pub(super) jobs: NonZeroU32,
    /// In the order of their identities, by the plan's indices.
    pub(super) nodes: Vec<NodeId>,
    work: Work,
}

/// Another plan is worth draining a pipeline and loading layers if it makes chunks
/// faster by this share. Chosen: several times what measurements differ by.
const GAIN_MIN: f64 = 0.1;

impl Planned {
    /// The best plan of these members.
    pub(super) fn new(
        policy: &Policy,
        members: &Members,
        able: Vec<(NodeId, Worker)>,
    ) -> Result<Self, Error> {
        let (nodes, workers): (Vec<_>, Vec<_>) =
            candidates(able, CANDIDATES_MAX).into_iter().unzip();
        let links = members.links(&nodes, policy.assumed_link);
        let mut request = request(policy.work, workers, links, policy.jobs_max);
        let (jobs, plan) = most_that_fit(policy.jobs_max, |jobs| {
            request.objective = Objective::Throughput { jobs };
            placement::plan(&request)
        })?;
        let duties = duties(&plan.placement, &nodes);
        Ok(Self { plan, duties, jobs, nodes, work: policy.work })
    }

    /// Whether this plan is worth taking the place of one that could stay.
    pub(super) fn beats(&self, standing: &Self, policy: &Policy, members: &Members) -> bool {
        let seconds = self.plan.prediction.seconds_per_chunk;
        let standing = standing.seconds_per_chunk(policy, members);
        standing.is_none_or(|standing| seconds * (1.0 + GAIN_MIN) < standing)
    }

    /// Whether its members can hold it, and may.
    pub(super) fn can_stay(&self, policy: &Policy, members: &Members) -> bool {
        self.seconds_per_chunk(policy, members).is_some()
    }

    /// Holders of layers, the lead first.
    pub(super) fn stages(&self) -> impl Iterator<Item = NodeId> {
        self.plan.placement.stages.iter().map(|stage| self.nodes[stage.worker])
    }

    /// Whether jobs of these works fit beside each other.
    pub(super) fn fits(&self, works: &[&Work]) -> bool {
        self.plan.prediction.memory.iter().all(|memory| {
            let duty = self.nodes.get(memory.worker).and_then(|node| self.duties.get(node));
            let Some(duty) = duty else { return true };
            let planned = job_bytes(duty, &self.work).saturating_mul(self.jobs.get().into());
            let shared = memory.need_bytes.saturating_sub(planned);
            let of_a_run = |work: &Work| work.footprint.stage_bytes;
            let largest = works.iter().map(|work| of_a_run(work)).max().unwrap_or(0);
            let larger = largest.saturating_sub(of_a_run(&self.work));
            let jobs = works.iter().map(|work| job_bytes(duty, work));
            jobs.fold(shared.saturating_add(larger), u64::saturating_add) <= memory.usable_bytes
        })
    }

    /// What it takes by what is known of its members now; `None` if they cannot or
    /// may not hold it any more.
    fn seconds_per_chunk(&self, policy: &Policy, members: &Members) -> Option<f64> {
        let nodes: Vec<_> = self.duties.keys().copied().collect();
        let workers: Option<Vec<_>> = nodes.iter().map(|&node| members.worker(node)).collect();
        let links = members.links(&nodes, policy.assumed_link);
        let request = request(self.work, workers?, links, self.jobs);
        let index = |worker: usize| nodes.binary_search(&self.nodes[worker]).ok();
        let Placement { stages, decoder, text } = &self.plan.placement;
        let stage = |Stage { worker, layers }: &Stage| {
            Some(Stage { worker: index(*worker)?, layers: layers.clone() })
        };
        let placement = Placement {
            stages: stages.iter().map(stage).collect::<Option<_>>()?,
            decoder: index(*decoder)?,
            text: index(*text)?,
        };
        let prediction = placement::predict(&request, &placement).ok()?;
        let fits = prediction.memory.iter().all(|memory| memory.need_bytes <= memory.usable_bytes);
        fits.then_some(prediction.seconds_per_chunk)
    }
}

pub(super) fn request(work: Work, workers: Vec<Worker>, links: Links, jobs: NonZeroU32) -> Request {
    Request {
        work,
        workers,
        links,
        objective: Objective::Throughput { jobs },
        classes: Classes::One,
    }
}

/// The most jobs that can be placed at once, up to `jobs_max`.
fn most_that_fit<E>(
    jobs_max: NonZeroU32,
    mut plan: impl FnMut(NonZeroU32) -> Result<Plan, E>,
) -> Result<(NonZeroU32, Plan), E> {
    let mut jobs = jobs_max;
    loop {
        match (plan(jobs), NonZeroU32::new(jobs.get() / 2)) {
            (Ok(plan), _) => return Ok((jobs, plan)),
            (Err(_), Some(fewer)) => jobs = fewer,
            (Err(error), None) => return Err(error),
        }
    }
}

fn duties(placement: &Placement, nodes: &[NodeId]) -> BTreeMap<NodeId, Duty> {
    let holder = |stage: &Stage| nodes[stage.worker];
    let mut duties = BTreeMap::<NodeId, Duty>::new();
    for (index, stage) in placement.stages.iter().enumerate() {
        let duty = duties.entry(holder(stage)).or_default();
        duty.layers = Some(stage.layers.clone());
        duty.next = placement.stages.get(index + 1).map(holder);
        duty.lead =
            placement.stages.first().map(holder).filter(|_| 0 < index && duty.next.is_none());
    }
    duties.entry(nodes[placement.text]).or_default().text = true;
    duties.entry(nodes[placement.decoder]).or_default().decoder = true;
    duties
}

/// Bytes that one job adds where this duty is done.
fn job_bytes(duty: &Duty, work: &Work) -> u64 {
    let layers = duty.layers.as_ref().map_or(0, |layers| layers.len() as u64);
    let decoder = if duty.decoder { work.footprint.decoder_job_bytes } else { 0 };
    layers.saturating_mul(work.footprint.layer_job_bytes).saturating_add(decoder)
}
