//! What a model folder holds, as a report that can be printed or serialised.
//!
//! Inspection never fails: what is wrong with a part stands in its report, so
//! that one broken file does not hide the others.

use std::collections::BTreeMap;

use serde::Serialize;
use types::{Attention, Positions, QueryNorm, StepList, TextEncoder, Transformer, Update, Vae};

use crate::{
    Checkpoint, Family, Part, Result,
    manifest::{self, Manifest},
    weights::Weights,
};

/// What a model folder holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The folder.
    pub source: String,
    /// The transformer's on-disk family.
    pub family: Option<Family>,
    /// Parts that are there.
    pub parts: Vec<PartReport>,
    /// Parts that are not.
    pub missing: Vec<Part>,
    /// The transformer's self-attention.
    pub attention: Option<AttentionReport>,
    /// The transformer's window; absent for a bidirectional model.
    pub window: Option<WindowReport>,
    /// How chunks are denoised.
    pub sampler: Option<SamplerReport>,
    /// Width, height and pictures per second.
    pub video: Option<(usize, usize, u32)>,
    /// What no file states, so that the published models' values are taken.
    pub assumed: Option<String>,
    /// What is wrong with the folder as a whole.
    pub problems: Vec<String>,
}

/// What is known of one part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartReport {
    /// Which part.
    pub part: Part,
    /// Sizes of the resolved configuration, by name.
    pub sizes: BTreeMap<&'static str, usize>,
    /// Parameters the configuration calls for (of the VAE: its decoder's).
    pub parameters: u64,
    /// Files with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Stored tensors.
    pub tensors: Vec<TensorReport>,
    /// Number of stored tensors by element type.
    pub dtypes: BTreeMap<String, usize>,
    /// Oddities that do no harm.
    pub warnings: Vec<String>,
    /// Why the part cannot be used.
    pub problem: Option<String>,
}

/// A stored tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// The name in the file, cleaned of training wrappers.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Element type, as safetensors names it.
    pub dtype: String,
}

/// Kind and widths of a self-attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(missing_docs, reason = "fields are those of `types::Mla`")]
pub enum AttentionReport {
    /// Keys and values of all heads are cached.
    Dense {
        /// Numbers cached per token and layer.
        cached: usize,
    },
    /// One latent per token is cached.
    Mla {
        /// Numbers cached per token and layer.
        cached: usize,
        kv_rank: usize,
        query_rank: Option<usize>,
        nope: usize,
        rope: usize,
        value: usize,
        query_norm: &'static str,
        fused_kv_down: bool,
        query_bias: bool,
    },
}

/// Frames attended to besides the chunk itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowReport {
    /// First frames of the video, which never leave.
    pub sink: usize,
    /// Latest finished frames, counting neither the sink nor the chunk.
    pub recent: usize,
    /// Frames generated together.
    pub chunk: usize,
    /// `absolute` or `window`.
    pub positions: &'static str,
}

/// How chunks are denoised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SamplerReport {
    /// `euler` or `renoise`.
    pub update: &'static str,
    /// Shift of the schedule.
    pub shift: f64,
    /// Steps of the first chunk.
    pub first_chunk_steps: String,
    /// Guidance of the first chunk.
    pub first_chunk_guidance: f32,
    /// Steps of later chunks.
    pub steps: String,
    /// Guidance of later chunks.
    pub guidance: f32,
}

impl Checkpoint {
    /// Reports what the folder holds and what is wrong with it.
    pub fn inspect(&self) -> Inspection {
        let all = [Part::TextEncoder, Part::Tokenizer, Part::Transformer, Part::Vae];
        let (present, missing): (Vec<Part>, Vec<Part>) =
            all.into_iter().partition(|part| self.has(*part));
        let transformer = self.transformer().ok();
        let run = self.model();
        let window = transformer.as_ref().and_then(|config| {
            let positions = match config.rope.positions {
                Positions::Absolute => "absolute",
                Positions::Window => "window",
            };
            let window = config.window?;
            let (sink, recent, chunk) = (window.sink, window.recent, window.chunk);
            Some(WindowReport { sink, recent, chunk, positions })
        });
        Inspection {
            source: self.name(),
            family: self.family().ok(),
            parts: present.into_iter().map(|part| self.inspect_part(part)).collect(),
            missing,
            attention: transformer.as_ref().map(attention),
            window,
            sampler: run.as_ref().ok().map(|model| sampler(&model.sampler)),
            video: run
                .as_ref()
                .ok()
                .map(|model| (model.video.width, model.video.height, model.video.fps)),
            assumed: self.assumed().unwrap_or_default(),
            problems: run.err().map(|error| error.to_string()).into_iter().collect(),
        }
    }

    fn inspect_part(&self, part: Part) -> PartReport {
        let mut report = PartReport {
            part,
            sizes: BTreeMap::new(),
            parameters: 0,
            files: Vec::new(),
            tensors: Vec::new(),
            dtypes: BTreeMap::new(),
            warnings: Vec::new(),
            problem: None,
        };
        let outcome = match part {
            Part::Tokenizer => self.tokenizer().map(|bytes| {
                report.files.push((self.tokenizer_name(), bytes.len() as u64));
            }),
            Part::Transformer => self.fill(
                &mut report,
                self.transformer(),
                |config| (transformer_sizes(config), manifest::whole_transformer(config)),
                || self.open_transformer(None).map(|opened| opened.warnings),
            ),
            Part::Vae => self.fill(
                &mut report,
                self.vae(),
                |config| (vae_sizes(config), manifest::vae_decoder(config)),
                || self.open_vae().map(|opened| opened.warnings),
            ),
            Part::TextEncoder => self.fill(
                &mut report,
                self.text_encoder(),
                |config| (text_sizes(config), manifest::text_encoder(config)),
                || self.open_text_encoder().map(|opened| opened.warnings),
            ),
        };
        report.problem = outcome.err().map(|error| error.to_string());
        report
    }

    /// Fills in what can be read, in the order in which it can fail.
    fn fill<C>(
        &self,
        report: &mut PartReport,
        config: Result<C>,
        describe: impl Fn(&C) -> (BTreeMap<&'static str, usize>, Manifest),
        open: impl Fn() -> Result<Vec<String>>,
    ) -> Result<()> {
        if let Ok(config) = &config {
            let (sizes, manifest) = describe(config);
            report.sizes = sizes;
            report.parameters = manifest::parameters(&manifest);
        }
        let weights = self.weights(report.part)?;
        report.tensors = tensors(&weights);
        for tensor in &report.tensors {
            *report.dtypes.entry(tensor.dtype.clone()).or_default() += 1;
        }
        report.files = weights.files;
        config?;
        report.warnings = open()?;
        Ok(())
    }
}

fn tensors(weights: &Weights) -> Vec<TensorReport> {
    let stored = weights.tensors.iter().map(|(name, tensor)| TensorReport {
        name: name.clone(),
        shape: tensor.shape.clone(),
        dtype: tensor.dtype.name().to_owned(),
    });
    stored.collect()
}

fn attention(config: &Transformer) -> AttentionReport {
    let cached = config.row_elements();
    match config.attention {
        Attention::Dense => AttentionReport::Dense { cached },
        Attention::Mla(mla) => AttentionReport::Mla {
            cached,
            kv_rank: mla.kv_rank,
            query_rank: mla.query_rank,
            nope: mla.nope,
            rope: mla.rope,
            value: mla.value,
            query_norm: match mla.query_norm {
                QueryNorm::None => "none",
                QueryNorm::Full => "full",
                QueryNorm::Latent => "latent",
            },
            fused_kv_down: mla.fused_kv_down,
            query_bias: mla.query_bias,
        },
    }
}

fn sampler(sampler: &types::Sampler) -> SamplerReport {
    let steps = |steps: &StepList| match steps {
        StepList::Even(count) => format!("{count} even"),
        StepList::Warped(list) => format!("{list:?} warped"),
        StepList::Listed(list) => format!("{list:?} as listed"),
    };
    SamplerReport {
        update: match sampler.update {
            Update::Euler => "euler",
            Update::Renoise => "renoise",
        },
        shift: sampler.shift,
        first_chunk_steps: steps(&sampler.first_chunk.steps),
        first_chunk_guidance: sampler.first_chunk.guidance,
        steps: steps(&sampler.later_chunks.steps),
        guidance: sampler.later_chunks.guidance,
    }
}

fn transformer_sizes(config: &Transformer) -> BTreeMap<&'static str, usize> {
    [
        ("dim", config.dim),
        ("ffn_dim", config.ffn_dim),
        ("layers", config.layers),
        ("heads", config.heads),
        ("in_channels", config.in_channels),
        ("out_channels", config.out_channels),
        ("text_dim", config.text_dim),
        ("text_len", config.text_len),
    ]
    .into()
}

fn vae_sizes(config: &Vae) -> BTreeMap<&'static str, usize> {
    [
        ("decoder_base_dim", config.decoder_base_dim),
        ("z_dim", config.z_dim),
        ("res_units", config.res_units),
        ("space_scale", config.space_scale()),
        ("time_scale", config.time_scale()),
    ]
    .into()
}

fn text_sizes(config: &TextEncoder) -> BTreeMap<&'static str, usize> {
    [
        ("vocabulary", config.vocabulary),
        ("dim", config.dim),
        ("ffn_dim", config.ffn_dim),
        ("layers", config.layers),
        ("heads", config.heads),
        ("head_dim", config.head_dim),
    ]
    .into()
}
