//! A chunk of a model, part by part, with a full window behind it.
//!
//! That is what every 0.75 s of the embedded model's video costs once the video
//! runs: its denoising passes, the commit pass, decoding, and H.264. Classes
//! take turns inside every repeat.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use backend::{Backend, Cpu};
use model::{Engine, Event, Film, Request, sampler::Noise};
use plan::memory::{Load, Parts, Size, memory};
use serde::Serialize;
use types::Video;
use video::{Fragmented, Picture, Sink};

use crate::{
    args::Precision,
    bench::{Common, Milliseconds, Times},
    failure::Failure,
    held, source, system, terminal,
};

/// That of `bench/pytorch/chunk.py`.
const PROMPT: &str =
    "a large red ball bouncing on a checkerboard floor and a small blue star spinning";

/// Arguments of `filmloom bench generate`.
#[derive(clap::Args, Debug)]
pub(crate) struct GenerateBench {
    /// Folder of the model [default: the embedded one].
    #[arg(short, long, value_name = "DIR")]
    model: Option<std::path::PathBuf>,
    /// Only this class, so that the peak memory is its own [default: every class
    /// of this processor, in turns].
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    #[command(flatten)]
    common: Common,
}

/// One class' figures.
#[derive(Debug, Serialize)]
struct Figures {
    mode: String,
    threads: usize,
    text: Milliseconds,
    first_chunk: Milliseconds,
    pass: Milliseconds,
    commit: Milliseconds,
    decode: Milliseconds,
    /// Passes, commit and decoding of one chunk.
    chunk: Milliseconds,
    encode: Milliseconds,
    /// Pictures of a chunk over the median time of chunk and encoding together.
    pictures_per_second: f64,
    peak_memory_bytes: Option<u64>,
}

/// One class being measured.
struct Arm<'a> {
    engine: &'a Engine<Cpu>,
    film: Film<'a, Cpu>,
    sink: Fragmented<io::Sink>,
    size: (u32, u32),
    pictures: usize,
    text: Times,
    first_chunk: Times,
    pass: Times,
    commit: Times,
    decode: Times,
    chunk: Times,
    encode: Times,
}

pub(super) fn run(args: &GenerateBench) -> Result<(), Failure> {
    let threads = args.common.threads.count();
    let checkpoint = source::open(args.model.as_deref())?;
    let cpus: Result<Vec<Cpu>, _> = match args.precision {
        Some(precision) => precision.cpu(threads).map(|cpu| vec![cpu]),
        None => Cpu::classes().map(|class| Cpu::new(class, threads)).collect(),
    };
    let cpus = cpus?;
    let model = checkpoint.model()?;
    let Video { width, height, .. } = model.video;
    let planned = cpus.iter().map(|cpu| {
        let engine = held::engine(cpu.class().activation());
        let size = Size { width, height };
        memory(&model, &Load { parts: Parts::whole(&model), engine, size, video_frames: 1 })
    });
    let planned = planned.collect::<Result<Vec<_>, _>>()?;
    held::fits(&planned, 0, system::available_memory_bytes(), threads)?;
    let engines = cpus
        .into_iter()
        .map(|cpu| Engine::load(Arc::new(cpu), &checkpoint))
        .collect::<Result<Vec<_>, _>>()?;
    let mut arms = engines.iter().map(Arm::new).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..args.common.repeats {
        for arm in &mut arms {
            arm.measure()?;
        }
    }
    let figures: Vec<Figures> = arms.iter().map(|arm| arm.figures(threads)).collect();
    match args.common.json {
        true => figures.iter().try_for_each(terminal::json_line),
        false => terminal::result(&table(&figures)),
    }
}

impl<'a> Arm<'a> {
    /// Starts a film and fills its window.
    fn new(engine: &'a Engine<Cpu>) -> Result<Self, Failure> {
        let model = engine.model();
        let (width, height) = (model.video.width, model.video.height);
        let request = Request {
            prompt: engine.prompt(PROMPT)?,
            noise: Noise::Seed(0),
            sampler: model.sampler.clone(),
            width,
            height,
            frames: None,
        };
        let film = engine.start(&request)?;
        let narrow = |side: usize| {
            u32::try_from(side).map_err(|_| Failure::Input(format!("pictures {side} wide")))
        };
        let size = (narrow(width)?, narrow(height)?);
        let options =
            video::Options { width: size.0, height: size.1, pictures_per_second: model.video.fps };
        let mut arm = Self {
            engine,
            film,
            sink: Fragmented::new(io::sink(), &options)?,
            size,
            pictures: 0,
            text: Times::default(),
            first_chunk: Times::default(),
            pass: Times::default(),
            commit: Times::default(),
            decode: Times::default(),
            chunk: Times::default(),
            encode: Times::default(),
        };
        let begun = Instant::now();
        arm.film.next_chunk(&mut |_| ())?;
        arm.first_chunk.add(begun.elapsed());
        let window = model.transformer.as_ref().and_then(|config| config.window);
        let fill = window.map_or(0, |window| (window.sink + window.recent).div_ceil(window.chunk));
        for _ in 1..fill {
            arm.film.next_chunk(&mut |_| ())?;
        }
        Ok(arm)
    }

    /// Times a prompt and one chunk.
    fn measure(&mut self) -> Result<(), Failure> {
        let mut begun = Instant::now();
        self.engine.text().encode(&self.engine.prompt(PROMPT)?)?;
        self.text.add(begun.elapsed());

        let (mut passes, mut commit, mut decode) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        let chunk = self.film.next_chunk(&mut |event| match event {
            Event::PassStarted { .. } | Event::DecodeStarted { .. } => begun = Instant::now(),
            Event::PassDone { commit: true, .. } => commit = begun.elapsed(),
            Event::PassDone { .. } => passes.push(begun.elapsed()),
            Event::DecodeDone { .. } => decode = begun.elapsed(),
        })?;
        self.chunk.add(passes.iter().sum::<Duration>() + commit + decode);
        passes.into_iter().for_each(|pass| self.pass.add(pass));
        self.commit.add(commit);
        self.decode.add(decode);

        let begun = Instant::now();
        for rgb in &chunk.pictures {
            self.sink.push(&Picture::new(self.size.0, self.size.1, rgb)?)?;
        }
        self.sink.end_chunk()?;
        self.encode.add(begun.elapsed());
        self.pictures = chunk.pictures.len();
        Ok(())
    }

    fn figures(&self, threads: usize) -> Figures {
        let (chunk, encode) = (self.chunk.milliseconds(), self.encode.milliseconds());
        #[expect(clippy::cast_precision_loss, reason = "a chunk has a dozen pictures")]
        let pictures = self.pictures as f64;
        Figures {
            mode: self.engine.class().name().to_owned(),
            threads,
            text: self.text.milliseconds(),
            first_chunk: self.first_chunk.milliseconds(),
            pass: self.pass.milliseconds(),
            commit: self.commit.milliseconds(),
            decode: self.decode.milliseconds(),
            chunk,
            encode,
            pictures_per_second: pictures * 1e3 / (chunk.median + encode.median),
            peak_memory_bytes: system::peak_memory_bytes(),
        }
    }
}

fn table(figures: &[Figures]) -> String {
    let mut text = String::from(
        "milliseconds, median (minimum)\n\
         class              text  first chunk          pass        commit        decode         chunk      encode  pictures/s\n",
    );
    for row in figures {
        let ms = |time: Milliseconds| format!("{:.1} ({:.1})", time.median, time.min);
        text.push_str(&format!(
            "{:<16} {:>6.1} {:>12.1} {:>13} {:>13} {:>13} {:>13} {:>11} {:>11.1}\n",
            row.mode,
            row.text.median,
            row.first_chunk.median,
            ms(row.pass),
            ms(row.commit),
            ms(row.decode),
            ms(row.chunk),
            ms(row.encode),
            row.pictures_per_second,
        ));
    }
    if let Some(peak) = figures.last().and_then(|row| row.peak_memory_bytes) {
        text.push_str(&format!(
            "peak memory of all classes together: {}\n",
            plan::units::Bytes(peak)
        ));
    }
    text
}
