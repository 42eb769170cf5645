//! What attention holds while it runs: keys and values in tiles.
//!
//! | attention | heads with tiles of their own | keys |
//! | --- | --- | --- |
//! | a layer's, dense or rebuilt | all, a wave at a time | window and chunk |
//! | a layer's, absorbed | all share one head's | window and chunk |
//! | to the prompt | all, a wave at a time | rows of text |
//! | the decoder's | its only one | pixels of a frame |
//!
//! Counted from above: a wave has fewer heads where few threads are to be
//! occupied, and none where a task has its head's queries alone. How many is
//! [`types::Tiles`]' rule, which the engine itself follows.

use types::{Attention, TiledHead, Transformer, Vae};

use super::{Engine, Grid};
use crate::units::{product, sum};

/// Bytes that the attentions of a layer hold, one after the other.
pub(super) fn layer_tiles(
    transformer: &Transformer,
    grid: Grid,
    chunk_frames: usize,
    absorbed: bool,
    engine: &Engine,
) -> u64 {
    let Transformer { dim, heads, text_len, .. } = *transformer;
    let frames = transformer.window.map_or(chunk_frames, |window| window.frames_max());
    let window = grid.tokens(frames);
    let head_dim = dim.checked_div(heads).unwrap_or(0) as u64;
    let own = match &transformer.attention {
        Attention::Dense => engine.tiles_of(heads, window, head_dim, head_dim),
        Attention::Mla(mla) => {
            let [rank, nope, rope, value] =
                [mla.kv_rank, mla.nope, mla.rope, mla.value].map(|width| width as u64);
            match absorbed {
                true => engine.tiles_of(1, window, sum([rank, rope]), rank),
                false => engine.tiles_of(heads, window, sum([nope, rope]), value),
            }
        }
    };
    own.max(engine.tiles_of(heads, text_len as u64, head_dim, head_dim))
}

/// Bytes that the decoder's attention holds.
pub(super) fn decoder_tiles(vae: &Vae, grid: Grid, engine: &Engine) -> u64 {
    let widest = vae.dim_mult.last().copied().unwrap_or(0);
    let channels = product([vae.decoder_base_dim, widest]);
    engine.tiles_of(1, product([grid.rows, grid.columns]), channels, channels)
}

impl Engine {
    fn tiles_of(&self, heads: usize, keys: u64, key_width: u64, value_width: u64) -> u64 {
        let element_bytes = self.layout.factor_bytes;
        self.tiles.wave_bytes(heads, TiledHead { keys, key_width, value_width, element_bytes })
    }
}
