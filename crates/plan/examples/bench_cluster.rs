//! What a coordinator's decisions cost: 1,000 members, 10,000 jobs.
//!
//! ```text
//! cargo run --release -p filmloom-plan --example bench_cluster -- [members] [jobs]
//! ```
//!
//! Runs a [`Cluster`] at a quarter, half and all of the size. Members open sessions
//! and are profiled; all jobs, of a hundred users, wait at once; then they are worked
//! off, every command answered at once. After every fourth answer a member is measured
//! again, and is as fast as it was. Prints
//!
//! 1. for the working off: events a second, the mean and the longest event; and the
//!    memory of the process, which keeps the smaller clusters too;
//! 2. the same by kind of event at full size; `plan` is the one that plans.
//!
//! Growth is linear in the number of events if the mean does not grow with the size.
//! The longest events are those that the system interrupts: the smaller size has them
//! too.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, memory, arguments")]

use std::{
    collections::BTreeMap,
    error::Error,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use plan::{
    cluster::{Boot, Cluster, Command, JobSpec, Offer, Policy},
    placement::{Footprint, Limits, Link, Runs, Speed, Work},
};
use types::{Class, JobId, NodeId};

fn main() -> Result<(), Box<dyn Error>> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse::<u64>());
    let members = sizes.next().unwrap_or(Ok(1_000))?;
    let jobs = sizes.next().unwrap_or(Ok(10_000))?;
    println!("members   jobs   events  events/s  mean us  longest us  resident MiB");
    let mut benches = Vec::new();
    for part in [4, 2, 1] {
        let mut bench = Bench::new(members / part, jobs / part);
        bench.gather();
        bench.create();
        bench.work_off();
        bench.print();
        benches.push(bench);
    }
    println!("\nby kind, at full size");
    println!("event            count  mean us  longest us");
    for (kind, times) in benches.last().into_iter().flat_map(|bench| &bench.kinds) {
        println!("{kind:12} {:9} {:8.2} {:11.1}", times.count, times.mean_us(), times.longest_us());
    }
    Ok(())
}

struct Bench {
    cluster: Cluster,
    now: Duration,
    members: u64,
    jobs: u64,
    kinds: BTreeMap<&'static str, Times>,
    worked: Times,
}

/// How long events took.
#[derive(Clone, Copy, Default)]
struct Times {
    count: u32,
    sum: Duration,
    longest: Duration,
}

/// Chunks of every job.
const CHUNKS: u32 = 10;

impl Bench {
    fn new(members: u64, jobs: u64) -> Self {
        let (kinds, worked) = (BTreeMap::new(), Times::default());
        let cluster = Cluster::new(policy(jobs));
        Self { cluster, now: Duration::ZERO, members, jobs, kinds, worked }
    }

    /// All members come, are profiled, and those that are chosen load their layers.
    fn gather(&mut self) {
        for node in 0..self.members {
            let (id, boot) = (NodeId(node.into()), Boot(1));
            self.event("session", |cluster, now| {
                let entered = cluster.handle_session(now, id, boot, offer(node));
                assert!(entered.is_ok(), "a new member is let in");
            });
            self.event("profiled", |cluster, now| cluster.handle_profiled(now, id, speed(node)));
        }
        self.now += Duration::from_secs(60);
        self.event("plan", Cluster::handle_timeout);
        while let Some(command) = self.cluster.poll_command() {
            if let Command::Assign { node, assignment, .. } = command {
                self.event("ready", |cluster, now| cluster.handle_ready(now, node, assignment));
            }
        }
    }

    fn create(&mut self) {
        for job in 0..self.jobs {
            let (priority, user) = (0, job % 100);
            let spec = JobSpec { work: WORK, chunks: CHUNKS, times: 1.0, priority, user };
            self.event("created", |cluster, now| {
                let created = cluster.handle_created(now, JobId(job.into()), spec);
                assert!(created.is_ok(), "the queue has room");
            });
        }
    }

    /// Answers every command at once.
    fn work_off(&mut self) {
        self.worked = Times::default();
        let mut events = 0_u64;
        while let Some(command) = self.cluster.poll_command() {
            self.answer(command);
            events += 1;
            if events.is_multiple_of(4) {
                let node = events / 4 % self.members;
                let (id, speed) = (NodeId(node.into()), speed(node));
                self.event("profiled", |cluster, now| cluster.handle_profiled(now, id, speed));
            }
        }
        assert_eq!(self.cluster.waiting() + self.cluster.placed(), 0, "all jobs have ended");
    }

    fn answer(&mut self, command: Command) {
        match command {
            Command::Place { fence } => {
                self.event("placed", |cluster, now| cluster.handle_placed(now, fence));
            }
            Command::Encode { fence, .. } => {
                self.event("encoded", |cluster, now| cluster.handle_encoded(now, fence));
            }
            Command::Open { node, fence, .. } => {
                let lead = self.cluster.pipeline().stages().first().copied();
                self.event("opened", |cluster, now| cluster.handle_opened(now, node, fence));
                for chunk in (0..CHUNKS).filter(|_| lead == Some(node)) {
                    self.event("committed", |cluster, now| {
                        cluster.handle_committed(now, fence, chunk);
                    });
                }
            }
            Command::Close { node, fence } => {
                self.event("closed", |cluster, now| cluster.handle_closed(now, node, fence));
            }
            Command::Decode { fence, chunk, .. } => {
                self.event("published", |cluster, now| {
                    cluster.handle_published(now, fence.job, chunk);
                });
            }
            Command::Changed { job } => self.cluster.forget(job),
            Command::Profile { .. } | Command::Assign { .. } | Command::Release { .. } => {}
        }
    }

    fn event(&mut self, kind: &'static str, handle: impl FnOnce(&mut Cluster, Duration)) {
        let begun = Instant::now();
        handle(&mut self.cluster, self.now);
        let took = begun.elapsed();
        self.worked.add(took);
        self.kinds.entry(kind).or_default().add(took);
    }

    fn print(&self) {
        let Times { count, sum, .. } = self.worked;
        println!(
            "{:7} {:6} {count:8} {:9.0} {:8.2} {:11.1} {:13.1}",
            self.members,
            self.jobs,
            f64::from(count) / sum.as_secs_f64(),
            self.worked.mean_us(),
            self.worked.longest_us(),
            resident_mib().unwrap_or(f64::NAN),
        );
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        self.longest = self.longest.max(took);
    }

    fn mean_us(&self) -> f64 {
        1e6 * self.sum.as_secs_f64() / f64::from(self.count.max(1))
    }

    fn longest_us(&self) -> f64 {
        1e6 * self.longest.as_secs_f64()
    }
}

fn policy(jobs: u64) -> Policy {
    Policy {
        work: WORK,
        jobs_max: NonZeroU32::MIN.saturating_add(31),
        queue_max: usize::try_from(jobs).unwrap_or(usize::MAX),
        settle: Duration::from_secs(5),
        grace: Duration::from_secs(30),
        patience: Duration::from_secs(120),
        attempts_max: 3,
        assignments_before: 0,
        decoding_max: 2,
        assumed_link: Link { bytes_per_second: 1.25e9, latency_seconds: 2e-4 },
    }
}

/// About Wan2.1 1.3B at 480x832 in bf16, with 40 layers.
const WORK: Work = Work {
    layers: 40,
    first_chunk: Runs { passes: 4, runs: 4 },
    later_chunks: Runs { passes: 4, runs: 4 },
    hidden_bytes: 14_376_960,
    velocity_bytes: 599_040,
    x0_bytes: 599_040,
    footprint: Footprint {
        layer_bytes: 90_000_000,
        layer_job_bytes: 5_000_000,
        first_stage_bytes: 10_000_000,
        last_stage_bytes: 10_000_000,
        stage_bytes: 300_000_000,
        text_bytes: 6_000_000_000,
        decoder_bytes: 500_000_000,
        decoder_job_bytes: 1_900_000_000,
    },
};

/// Every eighth member encodes and decodes; memory for 1 to 32 GB of layers.
fn offer(node: u64) -> Offer {
    let is_large = node.is_multiple_of(8);
    let memory_bytes = if is_large { 96_000_000_000 } else { 2_000_000_000 * (1 + node % 16) };
    Offer {
        name: format!("worker-{node}"),
        class: Class::CpuF32,
        memory_bytes,
        limits: Limits::default(),
        layers: true,
        text: is_large,
        decoder: is_large,
    }
}

fn speed(node: u64) -> Speed {
    Speed {
        layer_seconds: 0.01 * (1.0 + (node * 7_919 % 1_000) as f64 / 100.0),
        embedding_seconds: 0.001,
        head_seconds: 0.001,
        decode_seconds: Some(0.2),
        text_seconds: Some(0.5),
    }
}

/// From the second number of `/proc/self/statm`, in pages of 4 KiB.
fn resident_mib() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4.0 / 1024.0)
}
