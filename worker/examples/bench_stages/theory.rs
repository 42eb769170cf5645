//! What the planner predicts, from profiles and links of this very run.

use std::num::NonZeroU32;

use backend::Cpu;
use plan::{
    memory::{Engine, Layout, Size},
    placement::{
        Classes, JobShape, Limits, Link, Links, Objective, Placement, Prediction, Request, Speed,
        Stage, Verdict, Work, Worker, plan, predict,
    },
};
use types::Model;

use crate::{ARMS, report::median};

/// Profiles of both cores, links of both directions, and the work.
pub(crate) struct Theory {
    work: Work,
    speeds: [Vec<Speed>; 2],
    links: [Vec<Link>; 2],
}

impl Theory {
    /// Nothing is measured yet.
    pub(crate) fn new(model: &Model) -> Self {
        // What is held is of no interest here: every machine has room for it.
        let engine = Engine {
            layout: Layout::f32(),
            tiles: Cpu::TILES,
            uncommitted_chunks_max: 0,
            finished_chunks_max: 1,
        };
        let size = Size { width: model.video.width, height: model.video.height };
        let shape = JobShape { size, sampler: model.sampler.clone(), video_frames: 1, engine };
        let work = Work::of(model, &shape).unwrap();
        Self { work, speeds: Default::default(), links: Default::default() }
    }

    /// One more profile of both cores, and the links from the lead and to it.
    pub(crate) fn add(&mut self, speeds: [Speed; 2], links: [Link; 2]) {
        for place in 0..2 {
            self.speeds[place].push(speeds[place]);
            self.links[place].push(links[place]);
        }
    }

    /// Seconds per chunk of every arm, of all its jobs together.
    pub(crate) fn seconds_per_chunk(&self) -> [f64; ARMS.len()] {
        let alone = [0, 1].map(|core| self.predicted(&[core], 1).chunk_seconds);
        let pair = self.predicted(&[0, 1], 1);
        let apart = 1.0 / alone.map(|seconds| 1.0 / seconds).iter().sum::<f64>();
        [
            alone[0],
            alone[1],
            pair.chunk_seconds_plain,
            pair.chunk_seconds,
            self.predicted(&[0, 1], 2).seconds_per_chunk,
            self.predicted(&[0], 2).seconds_per_chunk,
            apart,
        ]
    }

    pub(crate) fn print(&self) {
        for core in 0..2 {
            let Speed { layer_seconds, embedding_seconds, head_seconds, .. } = self.speed(core);
            let [layer, embedding, head] =
                [layer_seconds, embedding_seconds, head_seconds].map(|seconds| seconds * 1e3);
            println!(
                "core {core}: a run takes {layer:.2} ms a layer, {embedding:.2} ms in the \
                 embedding, {head:.2} ms in the head"
            );
        }
        for (place, name) in ["from the lead", "to the lead"].iter().enumerate() {
            let Link { bytes_per_second, latency_seconds } = self.link(place);
            let (rate, latency) = (bytes_per_second / 1e6, latency_seconds * 1e6);
            println!("link {name}: {rate:.0} MB/s, {latency:.0} us one way");
        }
    }

    /// Equal shares of the layers on these cores.
    fn predicted(&self, cores: &[usize], jobs: u32) -> Prediction {
        let share = self.work.layers / cores.len();
        let stage = |&worker: &usize| {
            let end = if worker + 1 == cores.len() { self.work.layers } else { share };
            Stage { worker, layers: worker * share..end }
        };
        let stages = match cores {
            [worker] => vec![Stage { worker: *worker, layers: 0..self.work.layers }],
            _ => cores.iter().map(stage).collect(),
        };
        // Neither decoding nor text takes any time, wherever it stands.
        let placement = Placement { stages, decoder: cores[0], text: cores[0] };
        predict(&self.request(jobs), &placement).unwrap()
    }

    /// Whether the planner would pool the cores for so many jobs.
    pub(crate) fn pools(&self, jobs: u32) -> bool {
        plan(&self.request(jobs)).unwrap().explanation.verdict != Verdict::UseOneNode
    }

    fn request(&self, jobs: u32) -> Request {
        let jobs = NonZeroU32::new(jobs).unwrap();
        Request {
            work: self.work,
            workers: vec![self.worker(0), self.worker(1)],
            links: Links::from_fn(2, |from, _| Some(self.link(from))),
            objective: Objective::Throughput { jobs },
            classes: Classes::One,
        }
    }

    fn worker(&self, core: usize) -> Worker {
        Worker {
            name: format!("core {core}"),
            class: Cpu::fastest_class().name().to_owned(),
            residual: Cpu::fastest_class().residual(),
            speed: self.speed(core),
            memory_bytes: u64::MAX,
            limits: Limits::default(),
        }
    }

    fn speed(&self, core: usize) -> Speed {
        let of = |part: fn(&Speed) -> f64| median(self.speeds[core].iter().map(part));
        Speed {
            layer_seconds: of(|speed| speed.layer_seconds),
            embedding_seconds: of(|speed| speed.embedding_seconds),
            head_seconds: of(|speed| speed.head_seconds),
            decode_seconds: Some(0.0),
            text_seconds: Some(0.0),
        }
    }

    fn link(&self, from: usize) -> Link {
        let of = |part: fn(&Link) -> f64| median(self.links[from].iter().map(part));
        Link {
            bytes_per_second: of(|link| link.bytes_per_second),
            latency_seconds: of(|link| link.latency_seconds),
        }
    }
}
