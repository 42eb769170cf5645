//! Attention over cached rows, without ever holding the score matrix.
//!
//! ```text
//! task = one head, some queries          for each tile of 128 keys, in window order:
//!   queries  [12 rows] x [keys panel]      scores    12 x 128, in registers and L1
//!                                          running maximum, exp, running sum
//!   weights  [12 x 128] x [values panel]   outputs  += weights x values
//! at the end: outputs / sum
//! ```
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

mod source;

use std::ops::Range;

use crate::{
    cpu::{
        Cpu,
        attention::source::{Kind, Tile},
        level::{Level, multiversion},
        linear, math,
        panel::Panels,
        rows::join,
        tensor::{Matrix, Parts, Stored},
        tile::{COLUMNS, Element, Operand, Out, ROWS},
    },
    seam::{Dtype, Heads, Keys, Tensor},
};

pub use source::Mla;

/// Keys of a tile. A constant of the numeric class: changing it changes bits.
const TILE_KEYS: usize = 128;
/// Score panels of a tile.
const SCORE_PANELS: usize = TILE_KEYS / COLUMNS;
/// Queries of a task, unless more tasks are needed to occupy the threads.
const TASK_ROWS_MAX: usize = 40 * ROWS;

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

fn run<E: Stored + source::Weighted>(
    cpu: &Cpu,
    queries: &Matrix,
    heads: &Heads<'_, Cpu>,
    keys: &Keys<'_, Cpu>,
    out: &mut Matrix,
) {
    let kind = Kind::<E>::new(cpu, heads, keys);
    let tokens = queries.rows();
    assert_eq!(queries.columns(), kind.heads() * kind.query_width(), "queries of all heads");
    assert_eq!((out.rows(), out.columns()), (tokens, kind.heads() * kind.value_width()), "outputs");
    let shared = kind.shared_tiles(cpu);

    let tasks_per_head = (2 * cpu.pool.threads()).div_ceil(kind.heads());
    let task_rows = tokens.div_ceil(tasks_per_head).next_multiple_of(ROWS).min(TASK_ROWS_MAX);
    let splits = tokens.div_ceil(task_rows);
    let queries = E::of(queries);
    let target = Parts::new(E::of_mut(out));
    cpu.pool.run(kind.heads() * splits, &|task| {
        let (head, split) = (task / splits, task % splits);
        let rows = split * task_rows..tokens.min((split + 1) * task_rows);
        let mut state = State::<E>::new(&kind, cpu.level, queries, head, rows.clone());
        let mut scratch = Tile::empty();
        for index in 0..kind.tiles() {
            let tile = match &shared {
                Some(tiles) => &tiles[index],
                None => {
                    kind.fill(cpu.level, head, index, &mut scratch);
                    &scratch
                }
            };
            state.attend(cpu.level, tile);
        }
        state.finish(&kind, cpu.level, head, rows, &target);
    });
}

/// The running softmax of some queries of one head.
struct State<E> {
    /// `[rows][key_width]`.
    queries: Vec<E>,
    key_width: usize,
    /// Per row, the largest score so far, and the sum of `exp(score - maximum)`.
    maxima: Vec<f32>,
    sums: Vec<f32>,
    /// Per 12 rows and panel of values, the weighted sum so far.
    outputs: Vec<Out>,
    value_panels: usize,
    rows: usize,
    weights: Vec<E>,
}

impl<E: Stored + source::Weighted> State<E> {
    fn new(
        kind: &Kind<'_, E>,
        level: Level,
        queries: &[E],
        head: usize,
        rows: Range<usize>,
    ) -> Self {
        let count = rows.len();
        let value_panels = kind.attended_width().div_ceil(COLUMNS);
        Self {
            queries: kind.queries(level, queries, head, rows),
            key_width: kind.key_width(),
            maxima: vec![f32::NEG_INFINITY; count],
            sums: vec![0.0; count],
            outputs: vec![[0.0; ROWS * COLUMNS]; count.div_ceil(ROWS) * value_panels],
            value_panels,
            rows: count,
            weights: vec![E::default(); ROWS * TILE_KEYS],
        }
    }

    fn attend(&mut self, level: Level, tile: &Tile<E>) {
        for first in (0..self.rows).step_by(ROWS) {
            let count = ROWS.min(self.rows - first);
            let mut scores = [[0.0; ROWS * COLUMNS]; SCORE_PANELS];
            for (panel, scores) in scores.iter_mut().enumerate().take(tile.score_panels()) {
                let operand = Operand {
                    a: self.queries[first * self.key_width..].as_ptr(),
                    row_stride: self.key_width,
                    taps: &[0],
                    k: self.key_width,
                    rows: count,
                    columns: COLUMNS,
                };
                // SAFETY: `count` queries exist from `first` on, and the panel is whole.
                unsafe { E::tile(level, operand, tile.key_panel(panel).as_ptr(), scores) };
            }
            let block = first / ROWS * self.value_panels;
            let outputs = &mut self.outputs[block..block + self.value_panels];
            let range = first..first + count;
            let (maxima, sums) = (&mut self.maxima[range.clone()], &mut self.sums[range]);
            soften(level, &mut scores, tile.keys, maxima, sums, outputs);
            let padded = tile.keys.next_multiple_of(2);
            for row in 0..count {
                let weights = &mut self.weights[row * TILE_KEYS..][..TILE_KEYS];
                for (scores, weights) in scores.iter().zip(weights.chunks_exact_mut(COLUMNS)) {
                    E::round(level, &scores[row * COLUMNS..][..COLUMNS], weights);
                }
            }
            for (panel, output) in outputs.iter_mut().enumerate() {
                let (values, columns) = tile.value_panel(panel);
                let operand = Operand {
                    a: self.weights.as_ptr(),
                    row_stride: TILE_KEYS,
                    taps: &[0],
                    k: padded,
                    rows: count,
                    columns,
                };
                // SAFETY: `weights` has TILE_KEYS per row and the panel `padded` keys.
                unsafe { E::tile(level, operand, values.as_ptr(), output) };
            }
        }
    }

    /// Divides by the sums and hands the rows to the kind's own last step.
    fn finish(
        mut self,
        kind: &Kind<'_, E>,
        level: Level,
        head: usize,
        rows: Range<usize>,
        target: &Parts<'_, E>,
    ) {
        let width = kind.attended_width();
        let mut attended = vec![E::default(); self.rows * width];
        for (row, line) in attended.chunks_exact_mut(width).enumerate() {
            let inverse = 1.0 / self.sums[row];
            for (panel, part) in line.chunks_mut(COLUMNS).enumerate() {
                let output = &mut self.outputs[row / ROWS * self.value_panels + panel];
                let values = &mut output[row % ROWS * COLUMNS..][..part.len()];
                values.iter_mut().for_each(|value| *value *= inverse);
                E::round(level, values, part);
            }
        }
        kind.store(level, head, rows, &attended, target);
    }
}

multiversion! {
    /// One tile's step of the running softmax: scores become weights, and what
    /// was summed under a smaller maximum is scaled down.
    fn soften(
        scores: &mut [Out; SCORE_PANELS],
        keys: usize,
        maxima: &mut [f32],
        sums: &mut [f32],
        outputs: &mut [Out],
    ) {
        use std::f32::consts::LOG2_E;
        for (row, (maximum, sum)) in maxima.iter_mut().zip(sums).enumerate() {
            let line = row * COLUMNS..(row + 1) * COLUMNS;
            // Keys that do not exist get no weight.
            for key in keys..TILE_KEYS {
                scores[key / COLUMNS][row * COLUMNS + key % COLUMNS] = f32::NEG_INFINITY;
            }
            let mut lanes = [*maximum; 16];
            for scores in scores.iter() {
                for half in scores[line.clone()].as_chunks::<16>().0 {
                    for (lane, &score) in lanes.iter_mut().zip(half) {
                        *lane = if *lane < score { score } else { *lane };
                    }
                }
            }
            let largest = join(lanes, |a, b| if a < b { b } else { a });
            let shift = -largest * LOG2_E;
            let mut lanes = [0.0_f32; 16];
            for scores in scores.iter_mut() {
                for half in scores[line.clone()].as_chunks_mut::<16>().0 {
                    for (lane, score) in lanes.iter_mut().zip(half) {
                        *score = math::exp2(score.mul_add(LOG2_E, shift));
                        *lane += *score;
                    }
                }
            }
            let added = join(lanes, |a, b| a + b);
            if *maximum < largest {
                let factor = math::exp2(maximum.mul_add(LOG2_E, shift));
                *sum = sum.mul_add(factor, added);
                for output in outputs.iter_mut() {
                    output[line.clone()].iter_mut().for_each(|output| *output *= factor);
                }
                *maximum = largest;
            } else {
                *sum += added;
            }
        }
    }
}

/// `out[rows] = a x panels`, rounded; rows of `a` are `row_stride` apart.
fn product<E: Element + source::Weighted>(
    level: Level,
    a: &[E],
    row_stride: usize,
    panels: &Panels<E>,
    rows: usize,
    mut store: impl FnMut(usize, Range<usize>, &[f32]),
) {
    for panel in 0..panels.count() {
        let (b, columns, range) = panels.panel(panel);
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            let mut sums = linear::start(&[0.0; COLUMNS], count, columns);
            let last = (first + count - 1) * row_stride + panels.k;
            let a = &a[first * row_stride..last];
            let operand = Operand {
                a: a.as_ptr(),
                row_stride,
                taps: &[0],
                k: panels.k,
                rows: count,
                columns,
            };
            // SAFETY: the slice above covers every row; the panel is whole.
            unsafe { E::tile(level, operand, b.as_ptr(), &mut sums) };
            for (row, sums) in (first..first + count).zip(sums.chunks_exact(COLUMNS)) {
                store(row, range.clone(), &sums[..range.len()]);
            }
        }
    }
}
