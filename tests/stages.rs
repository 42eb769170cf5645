//! What a pool builds on: a video's bits do not depend on how its layers are
//! divided into stages, on other jobs of a stage, on roll-backs, or on having
//! been begun elsewhere.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::{ops::Range, sync::Arc};

use backend::{Backend, Cpu, Dtype};
use checkpoint::{Checkpoint, Ema, Source};
use model::{
    Error,
    transformer::{Input, Job, Output, Scratch, Stage, cheaper_path},
};
use types::{Branch, Pass, PassKind, TokenGrid};

/// Layers of the embedded model.
const LAYERS: usize = 8;
/// Chunks that can be rolled back.
const UNCOMMITTED: u32 = 2;
const GRID: TokenGrid = TokenGrid { frames: 3, rows: 8, columns: 8 };
const SMALL: TokenGrid = TokenGrid { frames: 3, rows: 4, columns: 5 };

#[test]
fn any_division_into_stages_gives_the_same_bits() {
    for class in Cpu::classes() {
        let cpu = Arc::new(Cpu::new(class, 2).unwrap());
        let mut whole = Pipeline::new(&cpu, &[LAYERS], GRID);
        let mut divided = Pipeline::new(&cpu, &[3, 4, LAYERS], GRID);

        let (want, got) = (whole.film(0..9, 1.0), divided.film(0..9, 1.0));

        assert!(want == got, "velocities differ in {}", class.name());
        assert!(whole.pages() == divided.pages(), "pages differ in {}", class.name());
    }
}

#[test]
fn jobs_of_one_stage_do_not_disturb_each_other() {
    let cpu = Arc::new(Cpu::f32(2));
    let stages = stages(&cpu, &[4, LAYERS]);
    let pipeline = |grid, text| Pipeline::over(stages.clone(), grid, text);
    let alone = |grid, text, size| pipeline(grid, text).film(0..4, size);
    let want = (alone(GRID, 1.0, 1.0), alone(SMALL, -1.0, 0.5));

    let (mut one, mut other) = (pipeline(GRID, 1.0), pipeline(SMALL, -1.0));
    let mut got = (Vec::new(), Vec::new());
    for chunk in 0..4 {
        got.0.extend(one.film(chunk..chunk + 1, 1.0));
        got.1.extend(other.film(chunk..chunk + 1, 0.5));
    }

    assert!(want == got, "a job's velocities depend on its neighbour");
}

#[test]
fn chunks_that_were_rolled_back_are_made_again_to_the_bit() {
    let cpu = Arc::new(Cpu::f32(2));
    let mut pipeline = Pipeline::new(&cpu, &[5, LAYERS], GRID);
    let want = pipeline.film(0..10, 1.0);
    let pages = pipeline.pages();

    pipeline.jobs.iter_mut().for_each(|job| job.rollback(10 - UNCOMMITTED).unwrap());
    // Another attempt in between leaves its rows in the slots.
    pipeline.film(8..9, -2.0);
    pipeline.jobs.iter_mut().for_each(|job| job.rollback(8).unwrap());
    let again = pipeline.film(8..10, 1.0);

    assert!(want[8..] == again, "velocities differ after a roll-back");
    assert!(pages == pipeline.pages(), "pages differ after a roll-back");
    assert!(pipeline.jobs[0].rollback(7).is_err(), "that far back nothing is kept");
}

#[test]
fn a_video_goes_on_elsewhere_from_its_pages() {
    let cpu = Arc::new(Cpu::f32(2));
    let mut here = Pipeline::new(&cpu, &[5, LAYERS], GRID);
    here.film(0..9, 1.0);
    let pages = here.pages();
    let want = here.film(9..11, 1.0);

    let mut there = Pipeline::new(&cpu, &[2, LAYERS], GRID);
    for (stage, job) in there.stages.iter().zip(&mut there.jobs) {
        *job = stage.resume(GRID, UNCOMMITTED, 9).unwrap();
        let context = upload(&cpu, 48, 384, 1.0, cpu.class().activation());
        stage.set_context(job, Branch::Conditional, &context).unwrap();
    }
    let early = there.pass(9, PassKind::Denoise, 1.0);
    assert!(matches!(early, Err(Error::NoPage { layer: 0, .. })), "{early:?}");
    for (layer, chunk, page) in &pages {
        let job = there.jobs.iter_mut().find(|job| job.layers().contains(layer)).unwrap();
        job.write_page(&cpu, *layer, *chunk, page).unwrap();
    }

    assert!(there.film(9..11, 1.0) == want, "velocities differ after the move");
    let job = &there.jobs[0];
    assert!(matches!(job.read_page(&cpu, 2, 9), Err(Error::Layers { .. })), "layer 2 is elsewhere");
}

/// Stages in a row, and one video on them.
struct Pipeline {
    stages: Vec<Arc<Stage<Cpu>>>,
    jobs: Vec<Job<Cpu>>,
    scratch: Scratch<Cpu>,
    grid: TokenGrid,
}

/// Stages that end before these layers, each beginning where the last one ends.
fn stages(cpu: &Arc<Cpu>, ends: &[usize]) -> Vec<Arc<Stage<Cpu>>> {
    let source = Source::embedded(filmloom_mini::FILES);
    let checkpoint = Checkpoint::open(source, Ema::Prefer).expect("the embedded model is whole");
    let load = |range: Range<usize>| {
        let opened = checkpoint.open_transformer(Some(range.clone())).unwrap();
        let path = cheaper_path(&opened.config, GRID.tokens(), 24 * GRID.frame_tokens());
        let backend = Arc::clone(cpu);
        Arc::new(Stage::load(backend, opened.config, &opened.tensors, range, path).unwrap())
    };
    let starts = [0].iter().chain(ends);
    starts.zip(ends).map(|(&start, &end)| load(start..end)).collect()
}

impl Pipeline {
    fn new(cpu: &Arc<Cpu>, ends: &[usize], grid: TokenGrid) -> Self {
        Self::over(stages(cpu, ends), grid, 1.0)
    }

    fn over(stages: Vec<Arc<Stage<Cpu>>>, grid: TokenGrid, text: f32) -> Self {
        let cpu = stages[0].backend();
        let context = upload(cpu, 48, 384, text, cpu.class().activation());
        let open = |stage: &Arc<Stage<Cpu>>| {
            let mut job = stage.open(grid, UNCOMMITTED).unwrap();
            stage.set_context(&mut job, Branch::Conditional, &context).unwrap();
            job
        };
        let jobs = stages.iter().map(open).collect();
        let scratch = Scratch::new(cpu, stages[0].config(), grid.tokens(), grid.frames).unwrap();
        Self { stages, jobs, scratch, grid }
    }

    /// The velocity of every chunk, each committed afterwards.
    fn film(&mut self, chunks: Range<u32>, size: f32) -> Vec<Vec<f32>> {
        let mut velocities = Vec::new();
        for chunk in chunks {
            velocities.push(self.pass(chunk, PassKind::Denoise, size).unwrap());
            self.pass(chunk, PassKind::Commit, size).unwrap();
        }
        velocities
    }

    fn pass(&mut self, chunk: u32, kind: PassKind, size: f32) -> Result<Vec<f32>, Error> {
        let grid = self.grid;
        let frame_times = vec![if kind == PassKind::Denoise { 700.0 } else { 0.0 }; grid.frames];
        let (branch, tokens) = (Branch::Conditional, 0..grid.tokens());
        let pass = Pass { chunk, step: 0, branch, kind, frame_times, tokens };
        let cpu = self.stages[0].backend();
        let size = size * (1.0 + 0.1 * f32::from(u8::try_from(chunk).unwrap()));
        let frames = upload(cpu, 12, 4 * grid.tokens(), size, Dtype::F32);
        let mut input = Input::Frames(&frames);
        for (stage, job) in self.stages.iter().zip(&mut self.jobs) {
            match stage.submit(job, &mut self.scratch, &pass, input)? {
                Output::Hidden(hidden) => input = Input::Hidden(hidden),
                Output::Velocity(velocity) => return Ok(cpu.download(&velocity)?),
                Output::Committed => return Ok(Vec::new()),
            }
        }
        unreachable!("the last stage has the head")
    }

    /// Every page of every layer: layer, chunk, bytes.
    fn pages(&self) -> Vec<(usize, u32, Vec<u8>)> {
        let of_job = |job: &Job<Cpu>| {
            let cpu = self.stages[0].backend();
            let page = |layer, chunk| (layer, chunk, job.read_page(cpu, layer, chunk).unwrap());
            let chunks = job.slots().resident();
            job.layers()
                .flat_map(|layer| chunks.iter().map(move |&chunk| (layer, chunk)))
                .map(|(layer, chunk)| page(layer, chunk))
                .collect::<Vec<_>>()
        };
        self.jobs.iter().flat_map(of_job).collect()
    }
}

/// A tensor of some wave.
fn upload(cpu: &Cpu, rows: usize, columns: usize, size: f32, dtype: Dtype) -> backend::cpu::Matrix {
    let wave = |i: usize| ((i * 7919 % 1013) as f32 / 506.5 - 1.0) * size;
    let values: Vec<f32> = (0..rows * columns).map(wave).collect();
    cpu.upload(rows, columns, &values, dtype).unwrap()
}
