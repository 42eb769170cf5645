//! How an attention is divided: into tasks for the threads, and into waves of
//! heads whose tiles are made together.
//!
//! The division bounds what is held and occupies the threads. It decides no bit
//! of the result.

use types::Tiles;

use crate::{
    cpu::{
        Cpu,
        attention::{mla::Weighted, source::Kind},
        tensor::Matrix,
        tile::Bf16,
    },
    seam::{Dtype, Heads, Keys, Tensor},
};

/// Tiles of queries of a task, unless more tasks are needed to occupy the threads.
const TASK_TILES_MAX: usize = 40;
/// Tasks per thread of a wave of heads, so that threads end at about one time.
const WAVE_TASKS: usize = 4;

/// How an attention is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// Queries of a task.
    pub(super) task_rows: usize,
    /// Tasks of a head.
    pub(super) splits: usize,
    /// Heads of a wave.
    pub(super) wave: usize,
    /// Heads' tiles that are held together. None if every task makes its own
    /// tiles, one after the other.
    pub(super) sets: usize,
}

impl Division {
    pub(super) fn new<E: Weighted>(cpu: &Cpu, kind: &Kind<'_, E>, tokens: usize) -> Self {
        let (heads, threads) = (kind.heads(), cpu.pool.threads());
        let tasks_per_head = (2 * threads).div_ceil(heads);
        let height = E::tile_rows(cpu.level);
        let task_rows = tokens.div_ceil(tasks_per_head).next_multiple_of(height);
        let task_rows = task_rows.min(TASK_TILES_MAX * height);
        let splits = tokens.div_ceil(task_rows);
        let (wave, sets) = match (kind.has_shared_tiles(), splits) {
            (true, _) => (heads, 1),
            (false, 1) => (heads, 0),
            (false, _) => {
                let head_bytes = Cpu::TILES.head_bytes(kind.tiled_head());
                let occupied = (WAVE_TASKS * threads).div_ceil(splits);
                let wave = occupied.min(Cpu::TILES.wave_heads_max(heads, head_bytes));
                (wave, wave)
            }
        };
        Self { task_rows, splits, wave, sets }
    }

    /// Bytes of the tiles that are held together.
    pub(super) fn bytes<E: Weighted>(&self, kind: &Kind<'_, E>) -> u64 {
        self.sets as u64 * Cpu::TILES.head_bytes(kind.tiled_head())
    }
}

impl Cpu {
    /// How much of an attention's keys and values is made at once. The bound is
    /// chosen: several heads of a window of 480p, little beside a model.
    pub const TILES: Tiles =
        Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 64 << 20 };

    /// Bytes of keys and values that [`attend`](crate::Backend::attend) holds
    /// while it runs, besides what the threads work in.
    pub fn attention_bytes(
        &self,
        queries: &Matrix,
        heads: &Heads<'_, Self>,
        keys: &Keys<'_, Self>,
    ) -> u64 {
        match queries.dtype() {
            Dtype::F32 => bytes::<f32>(self, queries, heads, keys),
            Dtype::Bf16 => bytes::<Bf16>(self, queries, heads, keys),
        }
    }
}

fn bytes<E: Weighted>(
    cpu: &Cpu,
    queries: &Matrix,
    heads: &Heads<'_, Cpu>,
    keys: &Keys<'_, Cpu>,
) -> u64 {
    let kind = Kind::<E>::new(heads, keys);
    Division::new(cpu, &kind, queries.rows()).bytes(&kind)
}

#[cfg(test)]
mod tests {
    use types::TiledHead;

    use super::*;
    use crate::seam::Backend;

    #[test]
    fn no_division_holds_more_than_a_wave() {
        for threads in [1, 4, 16] {
            let cpu = Cpu::f32(threads);
            for (heads, keys, tokens) in
                [(1, 100, 1), (3, 5_000, 700), (12, 32_768, 4_680), (12, 1_000, 90), (2, 90_000, 9)]
            {
                let (head, division) = divided(&cpu, heads, keys, tokens);
                let held = division.sets as u64 * Cpu::TILES.head_bytes(head);
                assert!(held <= Cpu::TILES.wave_bytes(heads, head), "{division:?}");
            }
        }
    }

    #[test]
    fn waves_of_many_threads_are_full() {
        let (head, division) = divided(&Cpu::f32(16), 12, 32_768, 4_680);

        // 32 MiB a head.
        assert_eq!((division.wave, division.sets), (2, 2));
        assert_eq!(Cpu::TILES.wave_bytes(12, head), 64 << 20);
    }

    #[test]
    fn task_that_has_its_head_alone_makes_its_own_tiles() {
        let (_, division) = divided(&Cpu::f32(1), 12, 1_000, 9);

        assert_eq!((division.splits, division.sets), (1, 0));
    }

    /// The division of dense attention with heads 128 wide.
    fn divided(cpu: &Cpu, heads: usize, keys: usize, tokens: usize) -> (TiledHead, Division) {
        let head_dim = 128;
        let cache = cpu.zeros(1, 2 * heads * head_dim, Dtype::F32).unwrap();
        let segments = vec![0..1; keys];
        let keys = Keys { cache: &cache, segments: &segments, rotation: None };
        let kind = Kind::<f32>::new(&Heads::Dense { heads, head_dim }, &keys);
        (kind.tiled_head(), Division::new(cpu, &kind, tokens))
    }
}
