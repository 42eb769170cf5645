//! How fast this worker is with a model: what the planner divides the layers by.
//!
//! Three stages of one layer are timed, one after the other and over again: the
//! first, one in the middle, and the last. The middle one is a layer's time; what the
//! others take beyond it is the embedding's and the head's. Every run is one of a
//! chunk whose window is full, since almost all runs of a video are; the rows in it
//! are zero, which takes as long as any others. Taking turns keeps a layer from
//! finding its own weights in the processor's cache, as it would not in a stage of
//! many, and spreads what else the machine does over all three.
//!
//! ```text
//!  round 0 (dropped)    first  middle  last
//!  round 1 ...          first  middle  last      medians of each
//! ```
//!
//! The weights are random: how long a run takes does not depend on them, so a machine
//! is timed with a model whose weights it does not have. They are seeded, and so is
//! what goes in: what comes out has the same bits on every machine of the same numeric
//! class, and its digest shows whether a machine is of the class that it names.
//!
//! The decoder is timed over chunks after the first, which gives fewer pictures; the
//! text side over a long prompt. A part is timed for some two seconds; where one round
//! takes longer than that, it is the only one.
//!
//! A stage's own small work, the time embedding and the window's rotation, counts with
//! each of its layers: of the embedded model, 3 % too much for a stage of many. An end
//! whose time drowns in the scatter of the layer's counts as a nanosecond, not as
//! nothing. A model of fewer than three layers has no middle: its end counts with the
//! layer.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use backend::{Backend, Dtype, MlaPath, Tensor, philox::Draw};
use checkpoint::{Part, Tensors, manifest};
use model::{
    Error,
    text::Encoder,
    transformer::{Input, Job, Output, Scratch, Stage, TextProjection},
    vae::Decoder,
};
use plan::placement::Speed;
use types::{Branch, Model, Pass, PassKind, TokenGrid, Transformer, wan::TIMESTEPS};

/// What a worker offers besides holding layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Encoding text.
    pub text: bool,
    /// Decoding frames.
    pub decoder: bool,
}

/// A part is timed until it took so long, chosen.
const PART_MAX: Duration = Duration::from_secs(2);
/// Rounds of a part, the first included, which is dropped: enough for a median.
const ROUNDS_MAX: usize = 16;
/// Tokens of the timed prompt, chosen: some hundred words.
const PROMPT_TOKENS: usize = 128;
/// Of the random weights.
const SEED: u64 = 0;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// How long it takes.
    pub speed: Speed,
    /// BLAKE3 of what the three layers gave.
    pub probe: [u8; 32],
}

/// Times this worker's device with a model, for chunks of this shape.
///
/// # Errors
///
/// [`Error::Checkpoint`] if the model lacks a part that is timed, [`Error::Shape`] if the chunk is not the model's, [`Error::Backend`] if the device
/// has no room.
pub fn measure<B: Backend>(
    backend: &Arc<B>,
    model: &Model,
    grid: TokenGrid,
    roles: Roles,
) -> Result<Profile, Error> {
    let ([first, layer, last], probe) = measure_stages(backend, model, grid)?;
    let beyond = |end: f64| (end - layer).max(Duration::from_nanos(1).as_secs_f64());
    let decode = || measure_decoder(&**backend, model, grid);
    let text = || measure_text(backend, model);
    let speed = Speed {
        layer_seconds: layer,
        embedding_seconds: beyond(first),
        head_seconds: beyond(last),
        decode_seconds: roles.decoder.then(decode).transpose()?,
        text_seconds: roles.text.then(text).transpose()?,
    };
    Ok(Profile { speed, probe })
}

/// Seconds of a run through the first layer, a middle one and the last, with the ends
/// of the model; and the digest of what they gave.
fn measure_stages<B: Backend>(
    backend: &Arc<B>,
    model: &Model,
    grid: TokenGrid,
) -> Result<([f64; 3], [u8; 32]), Error> {
    let config = part(&model.transformer, Part::Transformer)?;
    let layers = config.layers;
    let path = match plan::path::absorbs(model) {
        true => MlaPath::Absorb,
        false => MlaPath::Rebuild,
    };
    let probe = |layer: usize| {
        let range = layer..layer + 1;
        let tensors = Tensors::random(manifest::transformer(config, range.clone()), SEED);
        let backend = Arc::clone(backend);
        let stage = Stage::load(backend, config.clone(), &tensors, range, path)?;
        Probe::new(stage, grid)
    };
    let mut probes = [probe(0)?, probe(layers / 2)?, probe(layers - 1)?];
    let seconds = medians(|| {
        let [first, middle, last] = &mut probes;
        Ok([first.run()?, middle.run()?, last.run()?])
    })?;
    let mut digest = blake3::Hasher::new();
    for Probe { given, .. } in &probes {
        digest.update(given);
    }
    Ok((seconds, *digest.finalize().as_bytes()))
}

/// A stage with a job whose window is full.
struct Probe<B: Backend> {
    stage: Stage<B>,
    job: Job<B>,
    scratch: Scratch<B>,
    pass: Pass,
    /// The values that a run gives: all the same.
    given: Vec<u8>,
}

impl<B: Backend> Probe<B> {
    fn new(stage: Stage<B>, grid: TokenGrid) -> Result<Self, Error> {
        let (backend, config) = (stage.backend(), stage.config());
        let chunk = full_after(config);
        let mut job = stage.resume(grid, 0, chunk)?;
        let activation = backend.class().activation();
        let page = vec![0; grid.tokens() * config.row_elements() * activation.bytes()];
        let missing: Vec<(usize, u32)> = job.missing_pages().collect();
        for (layer, chunk) in missing {
            job.write_page(backend, layer, chunk, &page)?;
        }
        let branch = Branch::Conditional;
        let context = backend.zeros(config.text_len, config.dim, activation)?;
        stage.set_context(&mut job, branch, &context)?;
        let scratch = Scratch::new(backend, config, grid.tokens(), grid.frames)?;
        #[expect(clippy::cast_possible_truncation, reason = "500 is an f32")]
        let time = (TIMESTEPS / 2.0) as f32;
        let pass = Pass::whole(grid, chunk, 0, branch, PassKind::Denoise, time);
        Ok(Self { stage, job, scratch, pass, given: Vec::new() })
    }

    /// Seconds of one run, until its result can be read.
    fn run(&mut self) -> Result<f64, Error> {
        let Self { stage, job, scratch, pass, given } = self;
        let (backend, config) = (stage.backend(), stage.config());
        let grid = job.grid();
        let frames = noise(backend, config.in_channels, pixels(config, grid))?;
        let input = match stage.range() {
            Range { start: 0, .. } => Input::Frames(&frames),
            _ => Input::Hidden(noise(backend, grid.tokens(), config.dim)?),
        };
        let begun = Instant::now();
        let output = match stage.submit(job, scratch, pass, input)? {
            Output::Hidden(output) | Output::Velocity(output) => Some(output),
            Output::Committed => None,
        };
        if let Some(output) = &output {
            backend.read_rows(output, 0..1)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        if let Some(output) = output.filter(|_| given.is_empty()) {
            let values = backend.download(&output)?;
            given.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        Ok(seconds)
    }
}

/// Seconds of decoding a chunk that is not the first, down to its pictures' bytes.
fn measure_decoder<B: Backend>(backend: &B, model: &Model, grid: TokenGrid) -> Result<f64, Error> {
    let config = part(&model.vae, Part::Vae)?;
    let tensors = Tensors::random(manifest::vae_decoder(config), SEED);
    let decoder = Decoder::load(backend, &tensors, config)?;
    let [_, patch_rows, patch_columns] = model.transformer.as_ref().map_or([1; 3], |t| t.patch);
    let (rows, columns) = (grid.rows * patch_rows, grid.columns * patch_columns);
    let frames = noise(backend, config.z_dim, grid.frames * rows * columns)?;
    let mut stream = decoder.stream(backend, rows, columns)?;
    decoder.decode(backend, &mut stream, &frames)?;
    let [seconds] = medians(|| {
        let begun = Instant::now();
        decoder.decode(backend, &mut stream, &frames)?.bytes(backend)?;
        Ok([begun.elapsed().as_secs_f64()])
    })?;
    Ok(seconds)
}

/// Seconds from a prompt's tokens to what the layers attend to.
fn measure_text<B: Backend>(backend: &Arc<B>, model: &Model) -> Result<f64, Error> {
    let config = part(&model.transformer, Part::Transformer)?;
    let text_len = config.text_len;
    let tensors = Tensors::random(manifest::text_projection(config), SEED);
    let projection = TextProjection::load(&**backend, config, &tensors)?;
    let config = part(&model.text_encoder, Part::TextEncoder)?;
    let tensors = Tensors::random(manifest::text_encoder(config), SEED);
    let encoder = Encoder::load(Arc::clone(backend), config.clone(), &tensors)?;
    let tokens = PROMPT_TOKENS.min(text_len);
    let [seconds] = medians(|| {
        let begun = Instant::now();
        let encoded = encoder.encode(&vec![0; tokens], &vec![true; tokens])?;
        let mut rows = backend.zeros(text_len, encoded.columns(), Dtype::F32)?;
        backend.copy_rows(&encoded, &mut rows, 0);
        let context = projection.context(&**backend, &rows)?;
        backend.read_rows(&context, 0..1)?;
        Ok([begun.elapsed().as_secs_f64()])
    })?;
    Ok(seconds)
}

/// The configuration of a part that is timed.
fn part<T>(config: &Option<T>, part: Part) -> Result<&T, Error> {
    config.as_ref().ok_or_else(|| {
        let (source_name, looked_for) = ("the model".to_owned(), "its configuration".to_owned());
        checkpoint::Error::NoPart { source_name, part, looked_for }.into()
    })
}

/// Medians over rounds. The first is dropped, unless it took so long that there is no
/// other.
fn medians<const N: usize>(
    mut round: impl FnMut() -> Result<[f64; N], Error>,
) -> Result<[f64; N], Error> {
    let (mut rounds, mut taken) = (Vec::new(), 0.0);
    while rounds.len() < ROUNDS_MAX && taken < PART_MAX.as_secs_f64() {
        let seconds = round()?;
        taken += seconds.iter().sum::<f64>();
        rounds.push(seconds);
    }
    let warm = &rounds[usize::from(1 < rounds.len())..];
    Ok(std::array::from_fn(|part| median(warm.iter().map(|seconds| seconds[part]).collect())))
}

/// The middle one of some times, the larger one of two.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Chunks after which a window is full.
fn full_after(config: &Transformer) -> u32 {
    let Some(window) = config.window else { return 0 };
    let frames = window.sink.saturating_add(window.recent);
    let chunks = frames.div_ceil(window.chunk.max(1));
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

/// Pixels of a chunk's frame tensors.
fn pixels(config: &Transformer, grid: TokenGrid) -> usize {
    let [_, patch_rows, patch_columns] = config.patch;
    grid.tokens() * patch_rows * patch_columns
}

fn noise<B: Backend>(backend: &B, rows: usize, columns: usize) -> Result<B::Tensor, Error> {
    let mut values = backend.zeros(rows, columns, Dtype::F32)?;
    backend.noise(Draw { seed: 0, chunk: 0, step: 0, domain: 0 }, &mut values);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use backend::{Class, Cpu, cpu::level::Level};
    use checkpoint::{Checkpoint, Ema, Source};
    use types::Window;

    use super::*;

    #[test]
    fn every_time_of_the_embedded_model_is_a_positive_number() {
        let Speed { layer_seconds, embedding_seconds, head_seconds, decode_seconds, text_seconds } =
            measured(GRID, Roles { text: true, decoder: true }).unwrap().speed;

        let optional = [decode_seconds.unwrap(), text_seconds.unwrap()];
        for seconds in [layer_seconds, embedding_seconds, head_seconds].into_iter().chain(optional)
        {
            assert!(seconds.is_finite() && 0.0 < seconds, "{seconds}");
        }
    }

    #[test]
    fn roles_that_are_off_are_not_timed() {
        let roles = |text, decoder| {
            let speed = measured(GRID, Roles { text, decoder }).unwrap().speed;
            (speed.text_seconds.is_some(), speed.decode_seconds.is_some())
        };
        assert_eq!(roles(false, false), (false, false));
        assert_eq!(roles(true, false), (true, false));
        assert_eq!(roles(false, true), (false, true));
    }

    #[test]
    fn a_chunk_of_another_length_is_refused() {
        let error =
            measured(TokenGrid { frames: 2, ..GRID }, Roles { text: false, decoder: false });
        assert!(matches!(error, Err(Error::Shape { .. })));
    }

    #[test]
    fn the_timed_window_is_full() {
        let checkpoint = open();
        let opened = checkpoint.open_transformer(Some(3..4)).unwrap();
        let (config, tensors) = (opened.config, opened.tensors);
        let stage = Stage::load(cpu(), config, &tensors, 3..4, MlaPath::Absorb).unwrap();

        let probe = Probe::new(stage, GRID).unwrap();

        let rows = probe.job.window_rows(probe.stage.backend(), 3).unwrap();
        assert_eq!(rows.len(), 21 * GRID.frame_tokens() * 56);
        let mut config = probe.stage.config().clone();
        config.window = Some(Window { sink: 1, recent: 6, chunk: 3 });
        assert_eq!(full_after(&config), 3);
    }

    #[test]
    fn the_first_round_is_dropped_unless_it_is_the_only_one() {
        let medians_of = |seconds: &[f64]| {
            let mut left: VecDeque<f64> = seconds.to_vec().into();
            let mut round = || left.pop_front().expect("no round too many");
            medians(|| Ok([round(), 0.0])).unwrap()[0]
        };

        assert_eq!(medians_of(&[2.5]), 2.5);
        assert_eq!(medians_of(&[1.5, 0.1, 0.3, 0.2]), 0.2);
        let many = [&[0.01; ROUNDS_MAX - 1][..], &[0.02]].concat();
        assert_eq!(medians_of(&many), 0.01);
    }

    #[test]
    fn layers_give_what_those_of_their_class_give_and_others_do_not() {
        let model = open().model().unwrap();
        let probe = |cpu: Cpu| {
            let roles = Roles { text: false, decoder: false };
            measure(&Arc::new(cpu), &model, GRID, roles).unwrap().probe
        };
        let expected = probe(Cpu::f32_at(1, Level::Portable));

        for class in Cpu::classes() {
            let found = probe(Cpu::new(class, 2).unwrap());
            assert_eq!(found == expected, class == Class::CpuF32, "{}", class.name());
        }
    }

    const GRID: TokenGrid = TokenGrid { frames: 3, rows: 2, columns: 2 };

    fn measured(grid: TokenGrid, roles: Roles) -> Result<Profile, Error> {
        measure(&cpu(), &open().model().unwrap(), grid, roles)
    }

    fn open() -> Checkpoint {
        Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer).unwrap()
    }

    fn cpu() -> Arc<Cpu> {
        Arc::new(Cpu::new(Class::CpuF32, 1).unwrap())
    }
}
