//! Whether latent attention is absorbed or rebuilt.
//!
//! Both compute the same function from the same cached rows. *Rebuilt*, every
//! head's keys and values are made from the rows. *Absorbed*, the up-projections
//! are moved to queries and outputs, and attention runs on the rows themselves.
//!
//! Weights are packed for one of the two, so the choice is made when a model is
//! loaded: for pictures of its own size and a full window.

use types::{Attention, Mla, Model};

use crate::{
    memory::{self, Size},
    units::sum,
};

/// Whether an engine that loads `model` absorbs its latent attention.
pub fn absorbs(model: &Model) -> bool {
    let parts = (model.transformer.as_ref(), model.vae.as_ref());
    let (Some(transformer), Some(vae)) = parts else { return false };
    let Attention::Mla(mla) = &transformer.attention else { return false };
    let size = Size { width: model.video.width, height: model.video.height };
    let (queries, keys) = match (memory::grid(transformer, vae, size), transformer.window) {
        (Ok(grid), Some(window)) => (grid.tokens(window.chunk), grid.tokens(window.frames_max())),
        (Ok(grid), None) => (grid.tokens(1), grid.tokens(1)),
        (Err(_), _) => (1, 1),
    };
    is_absorbed_cheaper(mla, queries, keys)
}

/// Whether absorbing takes fewer multiplications, for `queries` tokens of a
/// chunk that attend to `keys` rows.
///
/// It replaces a head's width by the latent's in scores and sums, and spares
/// rebuilding `keys` keys and values; it costs one small product per query at
/// either end. VideoMLA's own shapes are cheaper rebuilt (thousands of queries,
/// a latent wider than a head), the embedded model's absorbed.
pub fn is_absorbed_cheaper(mla: &Mla, queries: u64, keys: u64) -> bool {
    absorbed_multiplications(mla, queries, keys) < rebuilt_multiplications(mla, queries, keys)
}

/// Multiplications of a head's absorbed attention.
pub(crate) fn absorbed_multiplications(mla: &Mla, queries: u64, keys: u64) -> u64 {
    let [rank, rope] = [mla.kv_rank, mla.rope].map(|width| width as u64);
    times(queries, sum([times(keys, sum([rank, rank, rope])), projections(mla)]))
}

/// Multiplications of a head's rebuilt attention.
pub(crate) fn rebuilt_multiplications(mla: &Mla, queries: u64, keys: u64) -> u64 {
    let widths = [mla.nope, mla.rope, mla.value].map(|width| width as u64);
    times(keys, sum([times(queries, sum(widths)), projections(mla)]))
}

/// Multiplications between a head's latent and its key without position and value.
fn projections(mla: &Mla) -> u64 {
    times(mla.kv_rank as u64, sum([mla.nope as u64, mla.value as u64]))
}

fn times(number: u64, by: u64) -> u64 {
    number.saturating_mul(by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::preset;

    #[test]
    fn long_windows_of_wide_latents_are_rebuilt_and_narrow_latents_absorbed() {
        let mut model = preset("videomla-1.3b").unwrap();
        assert!(!absorbs(&model));
        let Some(Attention::Mla(mla)) = model.transformer.as_mut().map(|t| &mut t.attention) else {
            panic!("VideoMLA's attention is latent");
        };

        // A latent of 40 before heads of 96 + 32 and 128.
        mla.kv_rank = 40;

        assert!(absorbs(&model));
    }

    #[test]
    fn few_queries_are_absorbed_and_dense_attention_never() {
        let model = preset("videomla-1.3b").unwrap();
        let Some(Attention::Mla(mla)) = model.transformer.map(|transformer| transformer.attention)
        else {
            panic!("VideoMLA's attention is latent");
        };

        assert!(is_absorbed_cheaper(&mla, 10, 15_600));
        assert!(!is_absorbed_cheaper(&mla, 4_680, 15_600));
        assert!(!absorbs(&preset("wan-1.3b").unwrap()));
    }
}
