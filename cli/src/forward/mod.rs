//! `filmloom model forward`: single parts on given inputs, so that anyone can
//! compare the engine with another implementation, tensor by tensor.
//!
//! Inputs and outputs are safetensors files. The output appears whole or not at
//! all: it is written beside its place and renamed.

mod needs;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use backend::{Backend, Cpu};
use checkpoint::{Checkpoint, Ema, Source};
use clap::{Args, ValueEnum};
use model::{
    forward::{self, Array, PipelineInput, TransformerInput},
    sampler::Noise,
};
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use video::PartFile;

use crate::{
    args::{Precision, Threads},
    failure::Failure,
};

/// Arguments of `filmloom model forward`.
#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// The part to run.
    #[arg(long, value_enum)]
    pub(crate) part: Part,
    /// Model folder; only the asked part needs to be there.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Inputs, a safetensors file.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Where the outputs go, a safetensors file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Also write every layer's cached rows (transformer).
    #[arg(long)]
    pub(crate) dump_cache: bool,
    /// Decode one frame at a time; the result is the same (vae).
    #[arg(long)]
    pub(crate) stream: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Numbers to compute with.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
}

/// A part that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// `input_ids` and `attention_mask` [B, L] to `last_hidden_state`.
    Text,
    /// `context`, `clean`, `noisy`, `timestep` to `velocity` and caches.
    Transformer,
    /// `latents` [C, F, H, W] to `video` [3, P, 8H, 8W].
    Vae,
    /// `prompt` (bytes), `chunks`, `seed` or `noise` to `x0` and `pictures`;
    /// without a window and noise also `frames`.
    Pipeline,
}

/// Runs one part.
///
/// # Errors
///
/// [`Failure::Input`], naming the file or tensor that is at fault;
/// [`Failure::Machine`] if the output does not fit on the disk. There is no
/// output then.
pub(crate) fn run(args: &ForwardArgs) -> Result<(), Failure> {
    check_options(args)?;
    let input = Input::read(&args.input)?;
    let checkpoint = Checkpoint::open(Source::folder(&args.model), Ema::default())?;
    let cpu = Arc::new(args.precision.cpu(args.threads.count())?);
    let file = PartFile::create(&args.output)?;
    needs::check(args, &checkpoint, &input, cpu.class())?;
    let outputs = match args.part {
        Part::Text => text(&cpu, &checkpoint, &input)?,
        Part::Transformer => transformer(cpu, &checkpoint, &input, args.dump_cache)?,
        Part::Vae => vae(&cpu, &checkpoint, &input, args.stream)?,
        Part::Pipeline => pipeline(cpu, &checkpoint, &input)?,
    };
    write(file, &args.output, &outputs)
}

/// An option that does nothing is a misunderstanding.
fn check_options(args: &ForwardArgs) -> Result<(), Failure> {
    let only = |option: &str, part: &str| {
        Err(Failure::Input(format!("{option} is for --part {part} alone: leave it out")))
    };
    match args.part {
        Part::Text | Part::Vae | Part::Pipeline if args.dump_cache => {
            only("--dump-cache", "transformer")
        }
        Part::Text | Part::Transformer | Part::Pipeline if args.stream => only("--stream", "vae"),
        Part::Text | Part::Transformer | Part::Vae | Part::Pipeline => Ok(()),
    }
}

type Outputs = BTreeMap<String, Array>;

fn text(cpu: &Arc<Cpu>, checkpoint: &Checkpoint, input: &Input) -> Result<Outputs, Failure> {
    let (shape, ids) = input.integers("input_ids")?;
    let (mask_shape, masks) = input.integers("attention_mask")?;
    if shape.len() != 2 || shape != mask_shape || ids.is_empty() {
        return Err(input.problem(format!(
            "input_ids {shape:?} and attention_mask {mask_shape:?} must both be [batch, tokens]"
        )));
    }
    let id = |id: &i64| {
        u32::try_from(*id).map_err(|_| input.problem(format!("input_ids: {id} is no token id")))
    };
    let rows = |row: &[i64]| row.iter().map(id).collect::<Result<Vec<u32>, Failure>>();
    let ids = ids.chunks(shape[1]).map(rows).collect::<Result<Vec<_>, _>>()?;
    let mask = |row: &[i64]| row.iter().map(|&seen| seen != 0).collect();
    let masks: Vec<Vec<bool>> = masks.chunks(shape[1]).map(mask).collect();
    let hidden = forward::text(cpu, checkpoint, &ids, &masks)?;
    Ok(BTreeMap::from([("last_hidden_state".to_owned(), hidden)]))
}

fn transformer(
    cpu: Arc<Cpu>,
    checkpoint: &Checkpoint,
    input: &Input,
    dump_cache: bool,
) -> Result<Outputs, Failure> {
    let input = TransformerInput {
        context: input.array("context")?,
        clean: input.optional("clean")?,
        noisy: input.array("noisy")?,
        timesteps: input.array("timestep")?.values,
        path: None,
    };
    let output = forward::transformer(cpu, checkpoint, &input, dump_cache)?;
    let mut outputs = output.caches;
    outputs.insert("velocity".to_owned(), output.velocity);
    Ok(outputs)
}

fn vae(
    cpu: &Cpu,
    checkpoint: &Checkpoint,
    input: &Input,
    stream: bool,
) -> Result<Outputs, Failure> {
    let video = forward::vae(cpu, checkpoint, &input.array("latents")?, stream)?;
    Ok(BTreeMap::from([("video".to_owned(), video)]))
}

fn pipeline(cpu: Arc<Cpu>, checkpoint: &Checkpoint, input: &Input) -> Result<Outputs, Failure> {
    let chunks = input.integer("chunks")?;
    let (noise, frames) = match input.optional("noise")? {
        None => (Noise::Seed(input.integer("seed")?.cast_unsigned()), input.count("frames")?),
        Some(Array { shape, values }) => {
            let &[draws, _, frames, ..] = shape.as_slice() else {
                return Err(input.problem(format!(
                    "noise has shape {shape:?}, [draws, channels, frames, rows, columns] is needed"
                )));
            };
            let draw = (values.len() / draws.max(1)).max(1);
            (Noise::Given(values.chunks(draw).map(<[f32]>::to_vec).collect()), Some(frames))
        }
    };
    let chunks = u32::try_from(chunks)
        .map_err(|_| input.problem(format!("chunks: {chunks} is no number of chunks")))?;
    let input = PipelineInput { prompt: input.text("prompt")?, noise, chunks, frames };
    let output = forward::pipeline(cpu, checkpoint, &input)?;
    Ok(BTreeMap::from([("x0".to_owned(), output.x0), ("pictures".to_owned(), output.pictures)]))
}

/// An input file.
struct Input {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Input {
    fn read(path: &Path) -> Result<Self, Failure> {
        let problem =
            |problem: String| Failure::Input(format!("cannot read {}: {problem}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
        SafeTensors::deserialize(&bytes).map_err(|error| problem(error.to_string()))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    fn problem(&self, problem: String) -> Failure {
        Failure::Input(format!("{}: {problem}", self.path.display()))
    }

    fn tensor(&self, name: &str) -> Result<Option<TensorView<'_>>, Failure> {
        let file = SafeTensors::deserialize(&self.bytes)
            .map_err(|error| self.problem(error.to_string()))?;
        Ok(file.tensor(name).ok())
    }

    /// Sizes of a tensor's axes, if it is there.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensor(name).ok()??.shape().to_vec())
    }

    fn required(&self, name: &str) -> Result<TensorView<'_>, Failure> {
        self.tensor(name)?.ok_or_else(|| self.problem(format!("tensor {name} is missing")))
    }

    fn optional(&self, name: &str) -> Result<Option<Array>, Failure> {
        let Some(tensor) = self.tensor(name)? else { return Ok(None) };
        if tensor.dtype() != Dtype::F32 {
            let found = tensor.dtype();
            return Err(self.problem(format!("tensor {name} is {found:?}, F32 is needed")));
        }
        let values = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Some(Array { shape: tensor.shape().to_vec(), values }))
    }

    fn array(&self, name: &str) -> Result<Array, Failure> {
        let array = self.optional(name)?;
        array.ok_or_else(|| self.problem(format!("tensor {name} is missing")))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "no other type holds token ids")]
    fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), Failure> {
        let tensor = self.required(name)?;
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            Dtype::I32 => {
                data.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()
            }
            found => {
                return Err(self.problem(format!("tensor {name} is {found:?}, I64 is needed")));
            }
        };
        Ok((tensor.shape().to_vec(), values))
    }

    fn integer(&self, name: &str) -> Result<i64, Failure> {
        match self.integers(name)?.1.as_slice() {
            [value] => Ok(*value),
            values => {
                Err(self.problem(format!("{name} has {} values, one is needed", values.len())))
            }
        }
    }

    /// A positive integer, if it is there.
    fn count(&self, name: &str) -> Result<Option<usize>, Failure> {
        if self.tensor(name)?.is_none() {
            return Ok(None);
        }
        let value = self.integer(name)?;
        match usize::try_from(value) {
            Ok(count) if count != 0 => Ok(Some(count)),
            _ => Err(self.problem(format!("{name}: {value} is no count"))),
        }
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        let tensor = self.required(name)?;
        String::from_utf8(tensor.data().to_vec())
            .map_err(|_| self.problem(format!("tensor {name} is no UTF-8 text")))
    }
}

fn write(mut file: PartFile, path: &Path, outputs: &Outputs) -> Result<(), Failure> {
    let problem =
        |error: String| Failure::Machine(format!("cannot write {}: {error}", path.display()));
    let views = outputs.iter().map(|(name, array)| (name, Values(array)));
    let bytes = safetensors::serialize(views, None).map_err(|error| problem(error.to_string()))?;
    let written = file.append(&bytes).and_then(|()| file.sync()).and_then(|()| file.publish());
    written.map_err(|error| problem(error.to_string()))
}

/// An array as the file holds it.
struct Values<'a>(&'a Array);

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.0.values.as_slice())
    }
}
