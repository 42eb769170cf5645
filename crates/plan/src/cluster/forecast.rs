//! What a plan would be for jobs of another size or number, with the members of now.
//!
//! A [`Snapshot`] is what planning needs of a [`Cluster`]: it can be taken in a moment
//! and planned with elsewhere, while the cluster goes on. Nothing that is asked of it
//! changes anything.
//!
//! Every member is either part of the plan or left out for a reason. Those that a
//! pipeline would exclude (a pin that cannot be kept, say) are left out here too; for
//! larger pictures these may be others than now.
//!
//! Times are scaled from the size that workers were timed at ([`Scale`]).

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use types::NodeId;

use super::{
    Cluster, Duty, Policy, Presence,
    candidates::CANDIDATES_MAX,
    faults::{faults, is_of_a_member},
    members::{Member, Members},
    planned::{self, Planned},
};
use crate::{
    placement::{
        Error, HopLoad, Limits, Plan, Reason, Request, Scale, Work, Worker, WorkerLoad,
        WorkerMemory,
    },
    units::Bytes,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// A job's work.
    pub work: Work,
    /// How its times relate to those that were measured.
    pub scale: Scale,
    /// Jobs at once.
    pub jobs: NonZeroU32,
    /// Chunks of a job.
    pub chunks: u32,
    /// Pictures of a chunk after the first.
    pub chunk_pictures: u64,
}

/// What planning needs of a cluster.
#[derive(Clone, Debug)]
pub struct Snapshot {
    policy: Policy,
    members: Members,
    /// What members hold.
    duties: BTreeMap<NodeId, Duty>,
}

/// What would stand where, and how fast that would be.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// The plan, with its indices into `request.workers` and `nodes`.
    pub plan: Plan,
    /// What was planned.
    pub request: Request,
    /// The members that the plan's indices mean.
    pub nodes: Vec<NodeId>,
    /// Jobs at once that there is room for: those asked for, or fewer.
    pub jobs: NonZeroU32,
    /// Whether every member holds just this now. A pipeline that stands is changed for a
    /// clear gain only.
    pub stands: bool,
    /// Who does something: holders of layers in the order of the layers, then others.
    pub holders: Vec<Holder>,
    /// What goes from member to member.
    pub hops: Vec<Hop>,
    /// Everyone else who is not gone, in the order of their identities.
    pub left_out: Vec<LeftOut>,
    /// Pictures that all jobs together get a second.
    pub pictures_per_second: f64,
    /// Seconds that one job alone takes.
    pub video_seconds: f64,
    /// Seconds that all jobs take which are asked for: as many at once as there is room
    /// for.
    pub videos_seconds: f64,
}

/// A member that does something.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The member.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it would hold.
    pub duty: Duty,
    /// Bytes of that, and those it may use.
    pub memory: WorkerMemory,
    /// How busy it would be.
    pub load: WorkerLoad,
    /// What its owner allows, in words; empty if everything.
    pub limits: Vec<String>,
}

/// What goes from a member to another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// Who sends.
    pub from: NodeId,
    /// Who receives.
    pub to: NodeId,
    /// How much, and how long that takes.
    pub load: HopLoad,
    /// Whether the link was measured; else it is assumed.
    pub is_measured: bool,
}

/// A member that does nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// The member.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why a member does nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// It is about to leave.
    Draining,
    /// Its session is broken.
    Lost,
    /// Its speed is not known yet.
    Unmeasured,
    /// No plan can be made with it, or what it was given failed.
    Excluded(String),
    /// There are more members than a plan is made of.
    Crowd,
    /// It holds no layers, and what else it does is done by others.
    Roles,
    /// The plan is better without it.
    Planned(Reason),
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct NoForecast {
    /// What is in the way.
    pub error: Error,
    /// Members that could not be counted on.
    pub left_out: Vec<LeftOut>,
}

/// Members that a message names. Chosen: what people read.
const NAMED_MAX: usize = 8;

impl Cluster {
    /// What planning needs, as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            policy: self.policy.clone(),
            members: self.members.clone(),
            duties: self.pipeline.duties().map(|(node, duty)| (node, duty.clone())).collect(),
        }
    }
}

impl Snapshot {
    /// Plans for what is asked; fewer jobs at once where they do not all fit.
    ///
    /// # Errors
    ///
    /// [`NoForecast`] if nobody is here that a plan can count on, or it fits nowhere.
    pub fn forecast(&self, question: &Question) -> Result<Forecast, NoForecast> {
        let policy = Policy { work: question.work, jobs_max: question.jobs, ..self.policy.clone() };
        let mut able = self.able(question.scale);
        let mut faulty = BTreeMap::new();
        let mut planned = Planned::new(&policy, &self.members, able.clone());
        if planned.as_ref().is_err_and(is_of_a_member) {
            // Those that hold something have the better right to their layers.
            let mut ranked = able.clone();
            ranked.sort_by_key(|(node, _)| !self.duties.contains_key(node));
            faulty = faults(&policy, ranked).into_iter().collect();
            able.retain(|(node, _)| !faulty.contains_key(node));
            planned = Planned::new(&policy, &self.members, able.clone());
        }
        match planned {
            Ok(planned) => Ok(self.told(question, &able, planned, &faulty)),
            Err(error) => Err(NoForecast { error, left_out: self.left_out(&faulty, |_| None) }),
        }
    }

    fn able(&self, scale: Scale) -> Vec<(NodeId, Worker)> {
        let scaled = |(node, worker): (NodeId, Worker)| {
            (node, Worker { speed: worker.speed.scaled(scale), ..worker })
        };
        self.members.able().into_iter().map(scaled).collect()
    }

    fn told(
        &self,
        question: &Question,
        able: &[(NodeId, Worker)],
        planned: Planned,
        faulty: &BTreeMap<NodeId, String>,
    ) -> Forecast {
        let Planned { plan, duties, jobs, nodes, .. } = planned;
        let workers = able.iter().filter(|(node, _)| nodes.contains(node));
        let workers = workers.map(|(_, worker)| worker.clone()).collect();
        let links = self.members.links(&nodes, self.policy.assumed_link);
        let request = planned::request(question.work, workers, links, jobs);
        let left_out = self.left_out(faulty, |node| {
            if duties.contains_key(&node) {
                return None;
            }
            let index = nodes.iter().position(|&other| other == node);
            let reasons = &plan.explanation.left_out;
            let found = reasons.iter().find(|left_out| Some(left_out.worker) == index);
            Some(found.map_or(Why::Crowd, |left_out| Why::Planned(left_out.reason.clone())))
        });
        let prediction = &plan.prediction;
        let rounds = question.jobs.get().div_ceil(jobs.get());
        let together = prediction.videos_seconds(jobs.get(), question.chunks);
        let pictures = question.chunk_pictures as f64;
        Forecast {
            stands: duties == self.duties,
            holders: holders(&plan, &request, &nodes, &duties),
            hops: self.hops(&plan, &nodes),
            left_out,
            pictures_per_second: pictures / prediction.seconds_per_chunk,
            video_seconds: prediction.videos_seconds(1, question.chunks),
            videos_seconds: f64::from(rounds) * together,
            plan,
            request,
            nodes,
            jobs,
        }
    }

    fn hops(&self, plan: &Plan, nodes: &[NodeId]) -> Vec<Hop> {
        let hop = |load: &HopLoad| {
            let (from, to) = (nodes[load.from], nodes[load.to]);
            Hop { from, to, load: *load, is_measured: self.members.has_link(from, to) }
        };
        plan.prediction.hops.iter().map(hop).collect()
    }

    /// Members that are not gone and do nothing; `planned` says so of those that a plan
    /// counts on.
    fn left_out(
        &self,
        faulty: &BTreeMap<NodeId, String>,
        planned: impl Fn(NodeId) -> Option<Why>,
    ) -> Vec<LeftOut> {
        let why = |node: NodeId, member: &Member| {
            let why = unable(member);
            let why = why.or_else(|| faulty.get(&node).cloned().map(Why::Excluded));
            let why = why.or_else(|| planned(node))?;
            let by_role = !member.offer.layers && why == Why::Planned(Reason::NoShare);
            Some(if by_role { Why::Roles } else { why })
        };
        let left_out = self.members.iter().filter_map(|(node, member)| {
            let is_gone = member.presence == Presence::Gone;
            let why = why(node, member).filter(|_| !is_gone)?;
            Some(LeftOut { node, name: member.offer.name.clone(), why })
        });
        left_out.collect()
    }
}

/// Why no plan counts on a member, if none does.
fn unable(member: &Member) -> Option<Why> {
    match (&member.excluded, member.presence) {
        _ if member.is_draining => Some(Why::Draining),
        (_, Presence::Lost(_) | Presence::Gone) => Some(Why::Lost),
        (Some(problem), Presence::Here) => Some(Why::Excluded(problem.clone())),
        (None, Presence::Here) => member.speed.is_none().then_some(Why::Unmeasured),
    }
}

fn holders(
    plan: &Plan,
    request: &Request,
    nodes: &[NodeId],
    duties: &BTreeMap<NodeId, Duty>,
) -> Vec<Holder> {
    let loads = plan.prediction.memory.iter().zip(&plan.prediction.workers);
    let holder = |(memory, load): (&WorkerMemory, &WorkerLoad)| {
        let (node, worker) = (nodes[memory.worker], &request.workers[memory.worker]);
        Holder {
            node,
            name: worker.name.clone(),
            duty: duties.get(&node).cloned().unwrap_or_default(),
            memory: *memory,
            load: *load,
            limits: limits(&worker.limits),
        }
    };
    let mut holders: Vec<_> = loads.map(holder).collect();
    let first_layer =
        |holder: &Holder| holder.duty.layers.as_ref().map_or(usize::MAX, |layers| layers.start);
    holders.sort_by_key(first_layer);
    holders
}

/// What an owner allows, by the options that say so.
fn limits(limits: &Limits) -> Vec<String> {
    let Limits { layers, memory_bytes_max, layers_share_max } = limits;
    let layers = layers.as_ref().map(|layers| format!("--layers {}..{}", layers.start, layers.end));
    let memory = memory_bytes_max.map(|bytes| format!("--memory {}", Bytes(bytes)));
    let share = layers_share_max.filter(|&share| 0.0 < share && share < 1.0);
    let share = share.map(|share| format!("--max-share {share}"));
    [layers, memory, share].into_iter().flatten().collect()
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("it is draining: it leaves when its videos are made"),
            Self::Lost => f.write_str("its session is broken: it may come back"),
            Self::Unmeasured => f.write_str("it is not measured yet"),
            Self::Excluded(problem) => f.write_str(problem),
            Self::Crowd => {
                write!(
                    f,
                    "a plan is made of {CANDIDATES_MAX} workers at most, and others are faster"
                )
            }
            Self::Roles => {
                f.write_str("it holds no layers (--roles), and others do sooner what it does")
            }
            Self::Planned(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for NoForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        for LeftOut { name, why, .. } in self.left_out.iter().take(NAMED_MAX) {
            write!(f, "; {name} is left out: {why}")?;
        }
        match self.left_out.len().checked_sub(NAMED_MAX) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; {more} more are left out"),
        }
    }
}
