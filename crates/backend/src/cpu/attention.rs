//! Attention over cached rows, without ever holding the score matrix.
//!
//! ```text
//! task = one head, some queries          for each tile of 128 keys, in window order:
//!   queries  [tile's rows] x [keys panel]  scores    rows x 128, in registers and L1
//!                                          running maximum, exp, running sum
//!   weights  [rows x 128] x [values panel] outputs  += weights x values
//! at the end: outputs / sum
//! ```
//!
//! Where several tasks share a head, its tiles of keys and values are made once,
//! for a wave of heads at a time, which bounds the memory; else a task makes each
//! tile when its turn comes.
//!
//! What differs between the three kinds is where a tile's keys and values come
//! from, and what a query is ([`source`]):
//!
//! | kind | key of a head | value of a head |
//! | --- | --- | --- |
//! | dense | cached key, rotated | cached value |
//! | MLA, rebuilt | `k_up c`, rotated shared key | `v_up c` |
//! | MLA, absorbed | `c`, rotated shared key (for all heads) | `c`; `v_up` follows at the end |
//!
//! Exactness: a query's result depends on the order of its keys and on the
//! tile size, a constant; not on which task or thread it fell to.

mod division;
mod mla;
mod source;
mod tile;

use std::ops::Range;

use crate::{
    cpu::{
        Cpu,
        attention::{division::Division, mla::Weighted, source::Kind, tile::Tile},
        lanes,
        level::{Usable, multiversion},
        math,
        memory::Aligned,
        panel::Panels,
        tensor::{Matrix, Parts},
        tile::{COLUMNS, Element, Factors, Line, ROWS_MAX, Sums, multiply},
    },
    seam::{Dtype, Heads, Keys, Tensor},
};

pub use mla::Mla;

/// Keys of a tile. A constant of the numeric class: changing it changes bits.
const TILE_KEYS: usize = Cpu::TILES.keys;

/// See [`crate::Backend::attend`].
pub(super) fn attend(
    cpu: &Cpu,
    queries: &Matrix,
    heads: &Heads<'_, Cpu>,
    keys: &Keys<'_, Cpu>,
    out: &mut Matrix,
) {
    match queries.dtype() {
        Dtype::F32 => run::<f32>(cpu, queries, heads, keys, out),
        Dtype::Bf16 => run::<crate::cpu::tile::Bf16>(cpu, queries, heads, keys, out),
    }
}

fn run<E: Weighted>(
    cpu: &Cpu,
    queries: &Matrix,
    heads: &Heads<'_, Cpu>,
    keys: &Keys<'_, Cpu>,
    out: &mut Matrix,
) {
    let kind = Kind::<E>::new(heads, keys);
    let tokens = queries.rows();
    assert_eq!(queries.columns(), kind.heads() * kind.query_width(), "queries of all heads");
    assert_eq!((out.rows(), out.columns()), (tokens, kind.heads() * kind.value_width()), "outputs");

    let division = Division::new(cpu, &kind, tokens);
    let task_rows = division.task_rows;
    let (queries, target) = (E::of(queries), Parts::new(E::of_mut(out)));
    let attend = |head: usize, split: usize, made: Option<&[Tile<E>]>| {
        let rows = split * task_rows..tokens.min((split + 1) * task_rows);
        let mut state = State::<E>::new(&kind, cpu.level, queries, head, rows.clone());
        let mut own = Tile::empty();
        for index in 0..kind.tiles() {
            let tile = match made {
                Some(tiles) => &tiles[index],
                None => {
                    kind.fill(cpu.level, head, index, &mut own);
                    &own
                }
            };
            state.attend(cpu.level, tile);
        }
        state.finish(&kind, cpu.level, head, rows, &target);
    };
    match division.sets {
        0 => cpu.pool.run(kind.heads(), &|head| attend(head, 0, None)),
        _ => in_waves(cpu, &kind, &division, &|head, split, tiles| {
            attend(head, split, Some(tiles));
        }),
    }
}

/// What a task does: with a head, a part of its queries, and the head's tiles.
type Attend<'a, E> = dyn Fn(usize, usize, &[Tile<E>]) + Sync + 'a;

/// Makes the tiles of some heads, once for all tasks that need them, lets those
/// tasks `attend(head, split, tiles)`, and goes on to the next heads.
fn in_waves<E: Weighted>(
    cpu: &Cpu,
    kind: &Kind<'_, E>,
    division: &Division,
    attend: &Attend<'_, E>,
) {
    let (heads, count) = (kind.heads(), kind.tiles());
    let Division { splits, wave, sets, .. } = *division;
    let mut tiles: Vec<Tile<E>> = (0..sets * count).map(|_| Tile::empty()).collect();
    for first in (0..heads).step_by(wave) {
        let wave = wave.min(heads - first);
        let parts = Parts::new(&mut tiles);
        cpu.pool.run(sets.min(wave) * count, &|task| {
            // SAFETY: every tile is one task's.
            let tile = unsafe { parts.part(task..task + 1) };
            kind.fill(cpu.level, first + task / count, task % count, &mut tile[0]);
        });
        let held: u64 = tiles.iter().map(Tile::bytes).sum();
        assert_eq!(held, division.bytes(kind), "a wave holds what is planned");
        cpu.pool.run(wave * splits, &|task| {
            let (head, split) = (task / splits, task % splits);
            let tiles = &tiles[head.min(sets - 1) * count..][..count];
            attend(first + head, split, tiles);
        });
    }
}

/// The running softmax of some queries of one head.
struct State<E> {
    /// `[rows, key_width]`.
    queries: Aligned<E>,
    key_width: usize,
    /// Per row, the largest score so far, and the sum of `exp(score - maximum)`.
    maxima: Vec<f32>,
    sums: Vec<f32>,
    /// The weighted sums so far, `[rows, output_width]`, in whole panels.
    outputs: Aligned<f32>,
    output_width: usize,
    /// Of one tile's queries, `[tile rows, TILE_KEYS]` each.
    scores: Aligned<f32>,
    weights: Aligned<E>,
}

impl<E: Weighted> State<E> {
    fn new(
        kind: &Kind<'_, E>,
        level: Usable,
        queries: &[E],
        head: usize,
        rows: Range<usize>,
    ) -> Self {
        let (count, height) = (rows.len(), E::tile_rows(level));
        let output_width = kind.attended_width().next_multiple_of(COLUMNS);
        Self {
            queries: kind.queries(level, queries, head, rows),
            key_width: kind.key_width(),
            maxima: vec![f32::NEG_INFINITY; count],
            sums: vec![0.0; count],
            outputs: Aligned::scratch(count * output_width),
            output_width,
            scores: Aligned::scratch(height * TILE_KEYS),
            weights: Aligned::scratch(height * TILE_KEYS),
        }
    }

    fn attend(&mut self, level: Usable, tile: &Tile<E>) {
        // Whole panels of keys, so that a product's steps are long ones. Keys that
        // do not exist weigh 2^-126, the least that `exp2` gives, and their values
        // are zero.
        let padded = tile.keys.next_multiple_of(COLUMNS);
        let rows = self.sums.len();
        for first in (0..rows).step_by(E::tile_rows(level)) {
            let range = first..rows.min(first + E::tile_rows(level));
            let scores = &mut self.scores[..range.len() * TILE_KEYS];
            let queries = &self.queries[first * self.key_width..range.end * self.key_width];
            score(level, queries, self.key_width, tile, scores);

            let outputs = first * self.output_width..range.end * self.output_width;
            let outputs = &mut self.outputs[outputs];
            let (maxima, sums) = (&mut self.maxima[range.clone()], &mut self.sums[range.clone()]);
            soften(level, scores, tile.keys, padded, maxima, sums, outputs);

            let weights = E::rounded(level, scores, &mut self.weights[..range.len() * TILE_KEYS]);
            weigh(level, weights, padded, tile, outputs, self.output_width);
        }
    }

    /// Divides by the sums and hands the rows to the kind's own last step.
    fn finish(
        mut self,
        kind: &Kind<'_, E>,
        level: Usable,
        head: usize,
        rows: Range<usize>,
        target: &Parts<'_, E>,
    ) {
        let width = kind.attended_width();
        let mut attended = Aligned::scratch(rows.len() * width);
        let outputs = self.outputs.chunks_exact_mut(self.output_width);
        for ((line, output), sum) in attended.chunks_exact_mut(width).zip(outputs).zip(&self.sums) {
            lanes::scale(level, &mut output[..width], 1.0 / sum);
            E::round(level, &output[..width], line);
        }
        kind.store(level, head, rows, &attended, target);
    }
}

/// `scores = queries x keys`; queries have `width` channels.
fn score<E: Element>(
    level: Usable,
    queries: &[E],
    width: usize,
    tile: &Tile<E>,
    scores: &mut [f32],
) {
    scores.fill(0.0);
    let rows = scores.len() / TILE_KEYS;
    assert_eq!(queries.len(), rows * width, "a query for every row of scores");
    for panel in 0..tile.score_panels() {
        let (k, b) = (width, tile.key_panel(panel));
        let factors = Factors { a: queries, row_stride: width, taps: &[0], k, b, columns: COLUMNS };
        let values = &mut scores[panel * COLUMNS..];
        multiply(level, factors, Sums { values, stride: TILE_KEYS, rows });
    }
}

/// `outputs += weights x values`, over `keys` keys, a multiple of 32.
fn weigh<E: Element>(
    level: Usable,
    weights: &[E],
    keys: usize,
    tile: &Tile<E>,
    outputs: &mut [f32],
    stride: usize,
) {
    let rows = weights.len() / TILE_KEYS;
    assert_eq!(outputs.len(), rows * stride, "an output for every row of weights");
    for panel in 0..stride / COLUMNS {
        let (b, columns) = tile.value_panel(panel);
        let (a, k) = (weights, keys);
        let factors = Factors { a, row_stride: TILE_KEYS, taps: &[0], k, b, columns };
        let values = &mut outputs[panel * COLUMNS..];
        multiply(level, factors, Sums { values, stride, rows });
    }
}

multiversion! {
    /// One tile's step of the running softmax: of a row's TILE_KEYS scores, the
    /// `padded` first become weights, and what was summed under a smaller
    /// maximum is scaled down. Scores from `keys` on belong to no key.
    fn soften(
        scores: &mut [f32],
        keys: usize,
        padded: usize,
        maxima: &mut [f32],
        sums: &mut [f32],
        outputs: &mut [f32],
    ) {
        use std::f32::consts::LOG2_E;
        let width = outputs.len() / sums.len();
        let rows = scores.chunks_exact_mut(TILE_KEYS).zip(outputs.chunks_exact_mut(width));
        for ((scores, output), (maximum, sum)) in rows.zip(maxima.iter_mut().zip(sums)) {
            let scores = &mut scores[..padded];
            scores[keys..].fill(f32::NEG_INFINITY);
            let largest = lanes::largest(scores, *maximum);
            let added = lanes::soften(scores, largest);
            if *maximum < largest {
                let factor = math::exp2(maximum.mul_add(LOG2_E, -largest * LOG2_E));
                *sum = sum.mul_add(factor, added);
                output.iter_mut().for_each(|output| *output *= factor);
                *maximum = largest;
            } else {
                *sum += added;
            }
        }
    }
}

/// `out[rows] = a x panels`, rounded; rows of `a` are `row_stride` apart.
fn product<E: Element>(
    level: Usable,
    a: &[E],
    row_stride: usize,
    panels: &Panels<E>,
    rows: usize,
    mut store: impl FnMut(usize, Range<usize>, &[f32]),
) {
    let height = E::tile_rows(level);
    let mut sums = [Line::ZERO; ROWS_MAX];
    for panel in 0..panels.count() {
        let (b, columns, range) = panels.panel(panel);
        for first in (0..rows).step_by(height) {
            let count = height.min(rows - first);
            let sums = &mut sums[..count];
            sums.fill(Line::ZERO);
            let (a, k) = (&a[first * row_stride..], panels.k);
            let factors = Factors { a, row_stride, taps: &[0], k, b, columns };
            multiply(level, factors, Sums::lines(sums));
            for (row, sums) in (first..first + count).zip(sums) {
                store(row, range.clone(), &sums.0[..range.len()]);
            }
        }
    }
}
