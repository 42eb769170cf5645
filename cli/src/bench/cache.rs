//! Dense against latent attention, measured: the same shapes, random weights.
//!
//! `filmloom plan` computes what caches hold; here the caches are really there.
//! A stage of some layers runs passes over a full window, once with dense and
//! once with latent attention, in turns; bytes are those of the tensors held.

use std::{ops::Range, sync::Arc, time::Instant};

use backend::{Backend, Cpu, Dtype};
use checkpoint::{Tensors, manifest};
use model::transformer::{Input, Job, Output, Scratch, Stage, cheaper_path};
use plan::{
    memory::{Load, Parts, Size, grid, memory},
    units::Bytes,
};
use serde::Serialize;
use types::{Attention, Branch, Model, Pass, PassKind, TokenGrid, Transformer};

use crate::{
    args::{Precision, whole},
    bench::{Common, Milliseconds, Times},
    failure::Failure,
    held, source, system, terminal,
};

/// Arguments of `filmloom bench cache`.
#[derive(clap::Args, Debug)]
pub(crate) struct CacheBench {
    /// Shapes to measure at: `mini`, or a preset of `filmloom plan`.
    #[arg(short, long, value_name = "NAME", default_value = "mini")]
    model: String,
    /// Layers of the stage; all layers are alike.
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = whole::<u16>(1..=u64::from(u16::MAX)), allow_negative_numbers = true)]
    layers: u16,
    /// Numbers to compute with.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    precision: Precision,
    #[command(flatten)]
    common: Common,
}

/// One attention kind's figures.
#[derive(Debug, Serialize)]
struct Figures {
    attention: &'static str,
    class: &'static str,
    layers: usize,
    tokens_per_frame: usize,
    window_frames: usize,
    /// Of the cache tensors, slots for the chunk in generation included.
    cache_bytes: u64,
    cache_bytes_per_token_per_layer: u64,
    pass: Milliseconds,
}

struct Arm {
    attention: &'static str,
    stage: Stage<Cpu>,
    job: Job<Cpu>,
    scratch: Scratch<Cpu>,
    hidden: Vec<f32>,
    chunk: u32,
    pass: Times,
}

pub(super) fn run(args: &CacheBench) -> Result<(), Failure> {
    let model = match args.model.as_str() {
        source::EMBEDDED => source::open(None)?.model()?,
        name => plan::presets::preset(name).ok_or_else(|| {
            let known = plan::presets::NAMES.join(", ");
            Failure::Input(format!("no shapes are called {name}: give mini, {known}"))
        })?,
    };
    let (Some(transformer), Some(vae)) = (&model.transformer, &model.vae) else {
        return Err(Failure::Input(format!("{} has no transformer and VAE", args.model)));
    };
    let other = plan::presets::counterpart(transformer)
        .ok_or_else(|| Failure::Input(format!("{} has no dense or latent twin", args.model)))?;
    let size = Size { width: model.video.width, height: model.video.height };
    let frame = grid(transformer, vae, size)?;
    // Not the first layer: that stage would embed patches as well.
    let most = transformer.layers.saturating_sub(1);
    let layers = usize::from(args.layers);
    if most < layers {
        let (name, all) = (&args.model, transformer.layers);
        return Err(Failure::Input(format!(
            "--layers {layers}: {name} has {all} layers, of which {most} stand behind the first \
             one: give 1 to {most}"
        )));
    }
    let layers = 1..1 + layers;
    let threads = args.common.threads.count();
    let cpu = Arc::new(args.precision.cpu(threads)?);
    let configs = [transformer.clone(), other].map(|mut config| {
        config.window = transformer.window;
        config
    });
    let [dense, mla] = configs.each_ref().map(|config| {
        let model = Model { transformer: Some(config.clone()), ..model.clone() };
        let parts = Parts { text: false, layers: Some(layers.clone()), decoder: false };
        let engine = held::engine(cpu.class().activation());
        memory(&model, &Load { parts, engine, size, video_frames: 1 })
    });
    held::fits(&[dense?, mla?], 0, system::available_memory_bytes(), threads)?;
    let mut arms = Vec::new();
    for config in configs {
        let [_, patch_rows, patch_columns] = config.patch;
        let grid = TokenGrid {
            frames: config.window.map_or(1, |window| window.chunk),
            rows: frame.rows / patch_rows,
            columns: frame.columns / patch_columns,
        };
        arms.push(Arm::new(Arc::clone(&cpu), config, grid, layers.clone())?);
    }
    for _ in 0..args.common.repeats {
        for arm in &mut arms {
            arm.measure()?;
        }
    }
    let figures: Vec<Figures> = arms.iter().map(Arm::figures).collect();
    match args.common.json {
        true => figures.iter().try_for_each(terminal::json_line),
        false => terminal::result(&table(&figures)),
    }
}

impl Arm {
    /// A stage in the middle of the model, with a full window behind it.
    fn new(
        cpu: Arc<Cpu>,
        config: Transformer,
        grid: TokenGrid,
        layers: Range<usize>,
    ) -> Result<Self, Failure> {
        let tensors = Tensors::random(manifest::transformer(&config, layers.clone()), 0);
        let window = config.window;
        let keys = window.map_or(grid.frames, |window| window.frames_max()) * grid.frame_tokens();
        let path = cheaper_path(&config, grid.tokens(), keys);
        let attention = match config.attention {
            Attention::Dense => "dense",
            Attention::Mla(_) => "mla",
        };
        let context = cpu.zeros(config.text_len, config.dim, cpu.class().activation())?;
        let stage = Stage::load(cpu, config, &tensors, layers, path)?;
        let mut job = stage.open(grid, 0)?;
        stage.set_context(&mut job, Branch::Conditional, &context)?;
        let scratch = Scratch::new(stage.backend(), stage.config(), grid.tokens(), grid.frames)?;
        let width = grid.tokens() * stage.config().dim;
        #[expect(clippy::cast_precision_loss, reason = "any values will do")]
        let hidden = (0..width).map(|i| (i % 997) as f32 / 498.5 - 1.0).collect();
        let pass = Times::default();
        let mut arm = Self { attention, stage, job, scratch, hidden, chunk: 0, pass };
        let frames = window.map_or(0, |window| window.sink + window.recent);
        for _ in 0..frames.div_ceil(grid.frames) {
            arm.run(PassKind::Commit)?;
            arm.chunk += 1;
        }
        Ok(arm)
    }

    fn measure(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        self.run(PassKind::Denoise)?;
        self.pass.add(begun.elapsed());
        Ok(())
    }

    fn run(&mut self, kind: PassKind) -> Result<Output<Cpu>, Failure> {
        let grid = self.job.grid();
        let pass = Pass::whole(grid, self.chunk, 0, Branch::Conditional, kind, 500.0);
        let (backend, dim) = (self.stage.backend(), self.stage.config().dim);
        let hidden = backend.upload(grid.tokens(), dim, &self.hidden, Dtype::F32)?;
        let input = Input::Hidden(hidden);
        Ok(self.stage.submit(&mut self.job, &mut self.scratch, &pass, input)?)
    }

    fn figures(&self) -> Figures {
        let (grid, layers) = (self.job.grid(), self.stage.range().len());
        let cache_bytes = self.job.cache_bytes();
        let tokens = (self.job.slots().count() * grid.tokens() * layers) as u64;
        let window = self.stage.config().window;
        Figures {
            attention: self.attention,
            class: self.stage.backend().class().name(),
            layers,
            tokens_per_frame: grid.frame_tokens(),
            window_frames: window.map_or(0, |window| window.sink + window.recent),
            cache_bytes,
            cache_bytes_per_token_per_layer: cache_bytes / tokens.max(1),
            pass: self.pass.milliseconds(),
        }
    }
}

fn table(figures: &[Figures]) -> String {
    let mut text = String::from(
        "attention  class             layers  window     cache held  per token and layer  pass ms, median (min)\n",
    );
    for row in figures {
        text.push_str(&format!(
            "{:<10} {:<17} {:>6} {:>4} + {:<2} {:>12} {:>18} B  {:>10.1} ({:.1})\n",
            row.attention,
            row.class,
            row.layers,
            row.window_frames,
            "c",
            Bytes(row.cache_bytes).to_string(),
            row.cache_bytes_per_token_per_layer,
            row.pass.median,
            row.pass.min,
        ));
    }
    if let [a, b] = figures {
        let (small, large) = (a.cache_bytes.min(b.cache_bytes), a.cache_bytes.max(b.cache_bytes));
        #[expect(clippy::cast_precision_loss, reason = "a ratio to three places")]
        let saved = 100.0 * (1.0 - small as f64 / large as f64);
        text.push_str(&format!("latent holds {saved:.2} % less\n"));
    }
    text
}
