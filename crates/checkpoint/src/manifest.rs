//! The tensors a configuration calls for, by canonical name and shape.
//!
//! Pure functions: parameter counts, memory plans, checks of files on disk and
//! random weights are all derived from these lists.
//!
//! Canonical names are the original Wan names for the transformer, diffusers'
//! names for the VAE and Hugging Face's for the text encoder. Matrices are
//! `[out, in]`, kernels `[out, in, frames, rows, columns]`.
//!
//! Sources: `Wan-Video/Wan2.1` and `huggingface/diffusers` (names and shapes,
//! compared with the `state_dict()` of diffusers 0.42.1 and transformers 5.17);
//! arXiv:2605.30351, section 3 (latent attention).

use std::ops::Range;

use types::{Attention, Mla, QueryNorm, TextEncoder, Transformer, Vae};

/// Names and shapes, in the order of use.
pub type Manifest = Vec<(String, Vec<usize>)>;

/// Colour channels of a picture.
const PICTURE_CHANNELS: usize = 3;

/// Number of parameters in a list of tensors.
pub fn parameters(manifest: &[(String, Vec<usize>)]) -> u64 {
    let elements = |shape: &[usize]| shape.iter().map(|&size| size as u64).product::<u64>();
    manifest.iter().map(|(_, shape)| elements(shape)).fold(0, u64::saturating_add)
}

/// Tensors of a stage that holds `layers` of a transformer.
///
/// The time embedding is part of every stage, the patch embedding of the one that
/// holds layer 0, the head of the one that holds the last layer. Layers past the
/// end of the model are left out.
pub fn transformer(config: &Transformer, layers: Range<usize>) -> Manifest {
    let dim = config.dim;
    let patch: usize = config.patch.iter().product();
    let mut list = List::default();
    if layers.start == 0 {
        let [frames, rows, columns] = config.patch;
        let shape = [dim, config.in_channels, frames, rows, columns];
        list.add_with_bias("patch_embedding", &shape);
    }
    list.add_with_bias("time_embedding.0", &[dim, config.freq_dim]);
    list.add_with_bias("time_embedding.2", &[dim, dim]);
    list.add_with_bias("time_projection.1", &[6 * dim, dim]);
    for layer in layers.start..layers.end.min(config.layers) {
        list.layer(config, &format!("blocks.{layer}"));
    }
    if config.layers <= layers.end {
        list.add("head.modulation", &[1, 2, dim]);
        list.add_with_bias("head.head", &[config.out_channels * patch, dim]);
    }
    list.0
}

/// Tensors of the projection from text to what the layers attend to. They stand
/// in the transformer's files, but belong to whoever encodes the text.
pub fn text_projection(config: &Transformer) -> Manifest {
    let mut list = List::default();
    list.add_with_bias("text_embedding.0", &[config.dim, config.text_dim]);
    list.add_with_bias("text_embedding.2", &[config.dim, config.dim]);
    list.0
}

/// Tensors of a whole transformer: all layers, and the text projection.
pub fn whole_transformer(config: &Transformer) -> Manifest {
    [text_projection(config), transformer(config, 0..config.layers)].concat()
}

/// Tensors of a layer's latent self-attention, without the layer's prefix.
pub(crate) fn mla(dim: usize, heads: usize, mla: &Mla) -> Manifest {
    let mut list = List::default();
    let query = heads * (mla.nope + mla.rope);
    let query_matrix = |list: &mut List, name: &str, shape: [usize; 2]| match mla.query_bias {
        true => list.add_with_bias(name, &shape),
        false => list.add(&format!("{name}.weight"), &shape),
    };
    match mla.query_rank {
        None => query_matrix(&mut list, "q", [query, dim]),
        Some(rank) => {
            query_matrix(&mut list, "q_down", [rank, dim]);
            query_matrix(&mut list, "q_up", [query, rank]);
        }
    }
    match (mla.query_norm, mla.query_rank) {
        (QueryNorm::Full, _) => list.add("norm_q.weight", &[query]),
        (QueryNorm::Latent, Some(rank)) => list.add("norm_q.weight", &[rank]),
        (QueryNorm::Latent, None) | (QueryNorm::None, _) => {}
    }
    if mla.fused_kv_down {
        list.add("kv_down.weight", &[mla.kv_rank + mla.rope, dim]);
    } else {
        list.add("kv_down.weight", &[mla.kv_rank, dim]);
        list.add("k_rope.weight", &[mla.rope, dim]);
    }
    list.add("norm_kv.weight", &[mla.kv_rank]);
    list.add("k_up.weight", &[heads * mla.nope, mla.kv_rank]);
    list.add("v_up.weight", &[heads * mla.value, mla.kv_rank]);
    list.add_with_bias("o", &[dim, heads * mla.value]);
    list.0
}

/// Tensors of the VAE's decoder, with the convolution before it.
pub fn vae_decoder(config: &Vae) -> Manifest {
    let mut list = List::default();
    let z_dim = config.z_dim;
    let resolutions = config.dim_mult.len();
    let dims: Vec<usize> =
        config.dim_mult.iter().rev().map(|mult| mult * config.decoder_base_dim).collect();
    let (Some(&deepest), Some(&finest)) = (dims.first(), dims.last()) else {
        return list.0;
    };
    list.add_with_bias("post_quant_conv", &[z_dim, z_dim, 1, 1, 1]);
    list.add_with_bias("decoder.conv_in", &[deepest, z_dim, 3, 3, 3]);
    list.vae_unit("decoder.mid_block.resnets.0", deepest, deepest);
    list.add("decoder.mid_block.attentions.0.norm.gamma", &[deepest, 1, 1]);
    list.add_with_bias("decoder.mid_block.attentions.0.to_qkv", &[3 * deepest, deepest, 1, 1]);
    list.add_with_bias("decoder.mid_block.attentions.0.proj", &[deepest, deepest, 1, 1]);
    list.vae_unit("decoder.mid_block.resnets.1", deepest, deepest);
    let mut channels = deepest;
    for (index, &dim) in dims.iter().enumerate() {
        for unit in 0..=config.res_units {
            list.vae_unit(&format!("decoder.up_blocks.{index}.resnets.{unit}"), channels, dim);
            channels = dim;
        }
        if index + 1 < resolutions {
            let prefix = format!("decoder.up_blocks.{index}.upsamplers.0");
            // The encoder's last downsampling is the decoder's first upsampling.
            let mirror = resolutions - 2 - index;
            if config.temporal_downsample.get(mirror) == Some(&true) {
                list.add_with_bias(&format!("{prefix}.time_conv"), &[2 * dim, dim, 3, 1, 1]);
            }
            channels = dim / 2;
            list.add_with_bias(&format!("{prefix}.resample.1"), &[channels, dim, 3, 3]);
        }
    }
    list.add("decoder.norm_out.gamma", &[finest, 1, 1, 1]);
    list.add_with_bias("decoder.conv_out", &[PICTURE_CHANNELS, finest, 3, 3, 3]);
    list.0
}

/// Tensors of the text encoder.
pub fn text_encoder(config: &TextEncoder) -> Manifest {
    let mut list = List::default();
    let dim = config.dim;
    let inner = config.heads * config.head_dim;
    list.add("shared.weight", &[config.vocabulary, dim]);
    for layer in 0..config.layers {
        let attention = format!("encoder.block.{layer}.layer.0");
        list.add(&format!("{attention}.layer_norm.weight"), &[dim]);
        for projection in ["q", "k", "v"] {
            list.add(&format!("{attention}.SelfAttention.{projection}.weight"), &[inner, dim]);
        }
        list.add(&format!("{attention}.SelfAttention.o.weight"), &[dim, inner]);
        list.add(
            &format!("{attention}.SelfAttention.relative_attention_bias.weight"),
            &[config.position_buckets, config.heads],
        );
        let feed_forward = format!("encoder.block.{layer}.layer.1");
        list.add(&format!("{feed_forward}.layer_norm.weight"), &[dim]);
        for projection in ["wi_0", "wi_1"] {
            let name = format!("{feed_forward}.DenseReluDense.{projection}.weight");
            list.add(&name, &[config.ffn_dim, dim]);
        }
        list.add(&format!("{feed_forward}.DenseReluDense.wo.weight"), &[dim, config.ffn_dim]);
    }
    list.add("encoder.final_layer_norm.weight", &[dim]);
    list.0
}

#[derive(Default)]
struct List(Manifest);

impl List {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.to_owned(), shape.to_vec()));
    }

    /// Adds `name.weight` and, as long as its first axis, `name.bias`.
    fn add_with_bias(&mut self, name: &str, shape: &[usize]) {
        self.add(&format!("{name}.weight"), shape);
        self.add(&format!("{name}.bias"), &shape[..1]);
    }

    fn layer(&mut self, config: &Transformer, prefix: &str) {
        let dim = config.dim;
        self.add(&format!("{prefix}.modulation"), &[1, 6, dim]);
        match &config.attention {
            Attention::Dense => self.attention(config, &format!("{prefix}.self_attn")),
            Attention::Mla(latent) => {
                for (name, shape) in mla(dim, config.heads, latent) {
                    self.add(&format!("{prefix}.self_attn.{name}"), &shape);
                }
            }
        }
        if config.cross_attention_norm {
            self.add_with_bias(&format!("{prefix}.norm3"), &[dim]);
        }
        self.attention(config, &format!("{prefix}.cross_attn"));
        self.add_with_bias(&format!("{prefix}.ffn.0"), &[config.ffn_dim, dim]);
        self.add_with_bias(&format!("{prefix}.ffn.2"), &[dim, config.ffn_dim]);
    }

    fn attention(&mut self, config: &Transformer, prefix: &str) {
        for projection in ["q", "k", "v", "o"] {
            self.add_with_bias(&format!("{prefix}.{projection}"), &[config.dim, config.dim]);
        }
        if config.qk_norm {
            self.add(&format!("{prefix}.norm_q.weight"), &[config.dim]);
            self.add(&format!("{prefix}.norm_k.weight"), &[config.dim]);
        }
    }

    fn vae_unit(&mut self, prefix: &str, channels_in: usize, channels_out: usize) {
        self.add(&format!("{prefix}.norm1.gamma"), &[channels_in, 1, 1, 1]);
        self.add_with_bias(&format!("{prefix}.conv1"), &[channels_out, channels_in, 3, 3, 3]);
        self.add(&format!("{prefix}.norm2.gamma"), &[channels_out, 1, 1, 1]);
        self.add_with_bias(&format!("{prefix}.conv2"), &[channels_out, channels_out, 3, 3, 3]);
        if channels_in != channels_out {
            let name = format!("{prefix}.conv_shortcut");
            self.add_with_bias(&name, &[channels_out, channels_in, 1, 1, 1]);
        }
    }
}
