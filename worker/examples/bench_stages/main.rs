//! What a second stage costs and gains: one job and two jobs, over one process and
//! over two, each process pinned to one core and computing with one thread.
//!
//! ```text
//! cargo run --release -p filmloom-worker --example bench_stages -- [--rounds N] [--chunks N]
//! sudo target/release/examples/bench_stages --mbit 1000 --mbit 100 --mbit 10
//!
//!  a  one process on one core, one job              the baseline, on each core in turn
//!  b  two stages, one job, without look-ahead       the cost of the hops
//!  c  two stages, one job
//!  d  two stages, two jobs
//!  e  one process, two jobs
//!  f  two whole processes at once, a job each       what the machine itself allows
//! ```
//!
//! Four processes live through the whole run, two with all layers of the embedded
//! model and two with half of them, and do nothing while it is not their turn. They
//! are workers without a coordinator: the device's thread, and between the halves a
//! hop as in a cluster, gRPC over mutual TLS on loopback. Clean frames count as
//! durable as soon as they are out of the lead; nothing is decoded. Without
//! look-ahead, they count as durable once the commit run is out of the last stage,
//! which is when the next chunk can begin.
//!
//! Windows are filled first. Then the arms take turns in rounds, so that what else
//! the machine does hits all alike: `chunks + 1` chunks of each job, of which the
//! first is not counted. A chunk's time is that from one chunk's clean frames to the
//! next one's, divided by the jobs in the making; the table has the median over all
//! rounds, and the smallest and largest median of a round. A ratio is the median of
//! the rounds' ratios. Profiles of both cores and both directions of the link are
//! taken in every round, and what the planner predicts from their medians stands
//! beside; its error is negative where it promises too much. `busy` is the share of
//! the time in which the stages' devices compute.
//!
//! With `--mbit`, each half stands in a network namespace of its own, and everything is
//! measured once over a cable of each of these speeds. The last lines of a table say
//! whether the planner would pool the cores, and whether that is right.
//!
//! Every arm makes the same films, and the run fails if their bits differ. It needs
//! `taskset` and cores 0 and 1; cables need root and `iproute2`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a measurement")]

mod cable;
mod crew;
mod hop;
mod member;
mod report;
mod theory;

use std::{collections::BTreeMap, env::args, process::ExitCode, thread::sleep, time::Duration};

use checkpoint::{Checkpoint, Ema, Source};

use cable::Cable;
use crew::{Crew, LEAD, Made, SOLO_0, SOLO_1};
use member::Acknowledged;
use report::{Measured, Report};
use theory::Theory;
use types::Model;

const USAGE: &str =
    "usage: bench_stages [--rounds 1..=100] [--chunks 1..=100] [--mbit 1..=10000]...";

/// Chunks after which every window is full, and one more.
const FILL_CHUNKS: u32 = 8;
/// Longer than a commit run, and its hop at 10 Mbit/s: nothing of an arm is left when
/// the next one begins.
const SETTLE: Duration = Duration::from_millis(600);

/// Jobs, by number: the first two are one film, acknowledged in two ways.
const PLAIN: u32 = 1;
const FIRST: u32 = 2;
const SECOND: u32 = 3;

/// What is measured.
struct Arm {
    name: &'static str,
    /// Members that lead a job.
    leads: &'static [usize],
    /// Jobs of each of them.
    jobs: &'static [u32],
}

const ARMS: [Arm; 7] = [
    Arm { name: "a  one process, core 0", leads: &[SOLO_0], jobs: &[FIRST] },
    Arm { name: "a  one process, core 1", leads: &[SOLO_1], jobs: &[FIRST] },
    Arm { name: "b  two stages, no look-ahead", leads: &[LEAD], jobs: &[PLAIN] },
    Arm { name: "c  two stages", leads: &[LEAD], jobs: &[FIRST] },
    Arm { name: "d  two stages, two jobs", leads: &[LEAD], jobs: &[FIRST, SECOND] },
    Arm { name: "e  one process, two jobs", leads: &[SOLO_0], jobs: &[FIRST, SECOND] },
    Arm { name: "f  two processes at once", leads: &[SOLO_0, SOLO_1], jobs: &[FIRST] },
];

/// Bits of the films, by seed and chunk.
type Digests = BTreeMap<(u64, u32), String>;

fn main() -> ExitCode {
    let given: Vec<String> = args().skip(1).collect();
    if given.first().is_some_and(|first| first == member::COMMAND) {
        member::run(&given[1..]);
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::of(&given) else {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if let Err(problem) = run(&options) {
        println!("{problem}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> Result<(), String> {
    let model = open().model().unwrap();
    let cable = (!options.megabits.is_empty()).then(Cable::lay).transpose()?;
    let mut crew = Crew::start(model.transformer.as_ref().unwrap().layers, cable.as_ref());
    let mut digests = Digests::new();
    fill(&mut crew, &mut digests);
    let Some(cable) = &cable else {
        println!("over loopback");
        series(&model, &mut crew, options, &mut digests);
        return Ok(());
    };
    for &megabits in &options.megabits {
        cable.shape(megabits)?;
        println!("over {megabits} Mbit/s");
        series(&model, &mut crew, options, &mut digests);
    }
    Ok(())
}

/// All rounds over one link.
fn series(model: &Model, crew: &mut Crew, options: &Options, digests: &mut Digests) {
    let &Options { rounds, chunks, .. } = options;
    let (mut theory, mut report) = (Theory::new(model), Report::default());
    for round in 0..rounds as usize {
        theory.add(crew.speeds(), crew.links());
        for turn in 0..ARMS.len() {
            let arm = (round + turn) % ARMS.len();
            report.add(arm, measure(crew, &ARMS[arm], chunks, digests));
        }
    }
    println!("{rounds} rounds of {chunks} chunks, load average at the end: {}", load());
    report.print(&theory);
    println!();
}

/// What a run is to do.
struct Options {
    rounds: u32,
    chunks: u32,
    /// Speeds of cables; none, over loopback.
    megabits: Vec<u32>,
}

impl Options {
    fn of(given: &[String]) -> Option<Self> {
        let mut options = Self { rounds: 5, chunks: 4, megabits: Vec::new() };
        for pair in given.chunks(2) {
            let [name, value] = pair else { return None };
            let value: u32 = value.parse().ok().filter(|&value| 0 < value)?;
            match (name.as_str(), value) {
                ("--rounds", ..=100) => options.rounds = value,
                ("--chunks", ..=100) => options.chunks = value,
                ("--mbit", ..=10_000) => options.megabits.push(value),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// The embedded model.
fn open() -> Checkpoint {
    Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer).unwrap()
}

/// Opens every job wherever it is measured, and fills its window.
fn fill(crew: &mut Crew, digests: &mut Digests) {
    let opened: &[(usize, &[u32])] =
        &[(LEAD, &[PLAIN, FIRST, SECOND]), (SOLO_0, &[FIRST, SECOND]), (SOLO_1, &[FIRST])];
    for &(lead, jobs) in opened {
        for &job in jobs {
            let acknowledged =
                if job == PLAIN { Acknowledged::AfterCommit } else { Acknowledged::AtOnce };
            crew.open(lead, job, seed(job), acknowledged);
        }
        crew.go(&[lead], jobs, FILL_CHUNKS);
        check(&crew.made(lead), digests);
        sleep(SETTLE);
    }
}

fn seed(job: u32) -> u64 {
    if job == SECOND { 2 } else { 1 }
}

/// The same film has the same bits, whoever makes it.
fn check(made: &[Made], digests: &mut Digests) {
    for Made { job, chunk, digest, .. } in made {
        let known = digests.entry((seed(*job), *chunk)).or_insert_with(|| digest.clone());
        assert_eq!(known, digest, "chunk {chunk} of job {job} has other bits than before");
    }
}

fn measure(crew: &mut Crew, arm: &Arm, chunks: u32, digests: &mut Digests) -> Measured {
    let before = crew.compute_seconds();
    crew.go(arm.leads, arm.jobs, chunks + 1);
    let mut films = Vec::new();
    for &lead in arm.leads {
        let made = crew.made(lead);
        check(&made, digests);
        for &job in arm.jobs {
            let own = made.iter().filter(|made| made.job == job);
            films.push(own.map(|made| made.seconds).collect::<Vec<_>>());
        }
    }
    let after = crew.compute_seconds();
    sleep(SETTLE);
    let ends = films.iter().map(|film| film[film.len() - 1]);
    let (first_end, last_end) = (ends.clone().fold(f64::MAX, f64::min), ends.fold(0.0, f64::max));
    // Once one film is through, the others have more of the machine.
    let intervals = films.iter().flat_map(|film| film.windows(2));
    let counted = intervals.filter(|pair| pair[1] <= first_end);
    let seconds = counted.map(|pair| (pair[1] - pair[0]) / films.len() as f64).collect();
    let busy = std::array::from_fn(|member| (after[member] - before[member]) / last_end);
    Measured { seconds, busy }
}

/// The system's load, for whoever reads the table.
fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
