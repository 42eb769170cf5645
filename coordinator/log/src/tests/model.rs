//! The log against a plain model of it, through any order of calls and restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;
use types::{Epoch, JobId};

use super::{fence_of, header, x0};
use crate::{Appended, ChunkLog, Error, Limits};

/// Room for a few chunks of every job, so that it runs out in some cases.
const LIMITS: Limits = Limits { folder_bytes_max: 1_400 };

#[derive(Clone, Debug)]
enum Call {
    Create { job: u128 },
    Raise { job: u128, epoch: u64 },
    Append { job: u128, epoch: u64, chunk: u32, value: u32 },
    Remove { job: u128 },
    Restart,
}

/// What a call came to, without the values of its error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Done,
    New,
    Same,
    Unknown,
    Full,
    Stale,
    Gap,
    Differs,
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<u128, ModelJob>,
}

#[derive(Default)]
struct ModelJob {
    epoch: u64,
    chunks: Vec<u32>,
    epoch_records: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_log_does_what_its_model_does(calls in prop::collection::vec(call(), 1..60)) {
        let folder = TempDir::new().unwrap();
        let mut model = Model::default();
        let mut log = ChunkLog::open(folder.path(), LIMITS).unwrap();
        for call in calls {
            if let Call::Restart = call {
                drop(log);
                log = ChunkLog::open(folder.path(), LIMITS).unwrap();
            }
            prop_assert_eq!(run(&mut log, &call), model.run(&call), "{:?}", call);
            model.check(&log);
        }
    }
}

/// Few jobs, epochs and values, so that calls meet.
fn call() -> impl Strategy<Value = Call> {
    let job = || 0..2_u128;
    prop_oneof![
        2 => job().prop_map(|job| Call::Create { job }),
        2 => (job(), 0..5_u64).prop_map(|(job, epoch)| Call::Raise { job, epoch }),
        9 => (job(), 0..5_u64, 0..6_u32, prop::bool::weighted(0.1)).prop_map(
            |(job, epoch, chunk, differs)| {
                let value = if differs { 100 } else { chunk };
                Call::Append { job, epoch, chunk, value }
            }
        ),
        1 => job().prop_map(|job| Call::Remove { job }),
        1 => Just(Call::Restart),
    ]
}

fn run(log: &mut ChunkLog, call: &Call) -> Outcome {
    let done = |()| Outcome::Done;
    let result = match *call {
        Call::Create { job } => log.create(&header(JobId(job))).map(done),
        Call::Raise { job, epoch } => log.raise(fence_of(JobId(job), epoch)).map(done),
        Call::Remove { job } => log.remove(JobId(job)).map(done),
        Call::Restart => Ok(Outcome::Done),
        Call::Append { job, epoch, chunk, value } => log
            .append(fence_of(JobId(job), epoch), chunk, &x0(value))
            .map(|appended| match appended {
                Appended::New => Outcome::New,
                Appended::Same => Outcome::Same,
            }),
    };
    result.unwrap_or_else(|error| name(&error).unwrap_or_else(|| panic!("{error}")))
}

fn name(error: &Error) -> Option<Outcome> {
    Some(match error {
        Error::UnknownJob { .. } => Outcome::Unknown,
        Error::Full { .. } => Outcome::Full,
        Error::Stale { .. } => Outcome::Stale,
        Error::Gap { .. } => Outcome::Gap,
        Error::Differs { .. } => Outcome::Differs,
        Error::Io { .. }
        | Error::Locked { .. }
        | Error::InvalidHeader { .. }
        | Error::HeaderDiffers { .. }
        | Error::PayloadBytes { .. }
        | Error::NotCommitted { .. }
        | Error::Damaged { .. }
        | Error::Broken { .. } => return None,
    })
}

impl Model {
    fn used_bytes(&self) -> u64 {
        let bytes = |job: &ModelJob| 160 + 104 * job.chunks.len() as u64 + 96 * job.epoch_records;
        self.jobs.values().map(bytes).sum()
    }

    fn run(&mut self, call: &Call) -> Outcome {
        let room = LIMITS.folder_bytes_max - self.used_bytes();
        match *call {
            Call::Restart => Outcome::Done,
            Call::Create { job } if self.jobs.contains_key(&job) => Outcome::Done,
            Call::Create { .. } if room < 160 => Outcome::Full,
            Call::Create { job } => {
                self.jobs.insert(job, ModelJob::default());
                Outcome::Done
            }
            Call::Remove { job } => {
                self.jobs.remove(&job).map_or(Outcome::Unknown, |_| Outcome::Done)
            }
            Call::Raise { job, epoch } => self.jobs.get_mut(&job).map_or(Outcome::Unknown, |job| {
                if epoch < job.epoch { Outcome::Stale } else { job.raise(epoch, room) }
            }),
            Call::Append { job, epoch, chunk, value } => self
                .jobs
                .get_mut(&job)
                .map_or(Outcome::Unknown, |job| job.append(epoch, chunk, value, room)),
        }
    }

    fn check(&self, log: &ChunkLog) {
        assert_eq!(log.used_bytes(), self.used_bytes());
        let jobs: Vec<u128> = log.jobs().map(|job| job.0).collect();
        assert_eq!(jobs, self.jobs.keys().copied().collect::<Vec<_>>());
        for (&id, job) in &self.jobs {
            let id = JobId(id);
            assert_eq!(log.epoch(id).unwrap(), Epoch(job.epoch));
            assert_eq!(log.committed(id).unwrap() as usize, job.chunks.len());
            for (chunk, &value) in (0..).zip(&job.chunks) {
                assert_eq!(log.read(id, chunk).unwrap(), x0(value));
            }
        }
    }
}

impl ModelJob {
    fn raise(&mut self, epoch: u64, room: u64) -> Outcome {
        if epoch == self.epoch {
            return Outcome::Done;
        }
        if room < 96 {
            return Outcome::Full;
        }
        self.epoch = epoch;
        self.epoch_records += 1;
        Outcome::Done
    }

    fn append(&mut self, epoch: u64, chunk: u32, value: u32, room: u64) -> Outcome {
        if epoch < self.epoch {
            return Outcome::Stale;
        }
        match self.chunks.get(chunk as usize) {
            Some(&held) if held == value => {
                let raised = self.raise(epoch, room);
                if raised == Outcome::Done { Outcome::Same } else { raised }
            }
            Some(_) => Outcome::Differs,
            None if chunk as usize != self.chunks.len() => Outcome::Gap,
            None if room < 104 => Outcome::Full,
            None => {
                self.epoch = epoch;
                self.chunks.push(value);
                Outcome::New
            }
        }
    }
}
