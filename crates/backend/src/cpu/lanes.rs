//! Rows of f32 in sixteen lanes, the same on every instruction set.
//!
//! Functions over a whole row are inlined into a [`multiversion`] caller and
//! compiled with its instructions. A reduction keeps sixteen lanes, as one
//! vector of the widest set holds, and joins them in a fixed tree.

use crate::cpu::{level::multiversion, math};

/// Lanes of a reduction. A constant of the numeric class.
const LANES: usize = 16;

/// Sums `f(x)` in sixteen lanes, joined pairwise.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    join(lanes, |a, b| a + b)
}

/// The largest of `x` and `least`.
#[inline(always)]
pub(super) fn largest(x: &[f32], least: f32) -> f32 {
    let mut lanes = [least; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    join(lanes, larger)
}

/// A comparison is one instruction; `f32::max` also looks for NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

/// Scores become `e^(score - largest)`; returns their sum.
#[inline(always)]
pub(super) fn soften(scores: &mut [f32], largest: f32) -> f32 {
    use std::f32::consts::LOG2_E;
    let shift = -largest * LOG2_E;
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in whole {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *score = math::exp2(score.mul_add(LOG2_E, shift));
            *lane += *score;
        }
    }
    for (lane, score) in lanes.iter_mut().zip(rest) {
        *score = math::exp2(score.mul_add(LOG2_E, shift));
        *lane += *score;
    }
    join(lanes, |a, b| a + b)
}

/// Joins the lanes in a fixed tree.
#[inline(always)]
fn join(lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    // Loops of constant width become shuffles; a loop over widths stays a loop.
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for lane in 0..8 {
        eight[lane] = f(lanes[lane], lanes[lane + 8]);
    }
    for lane in 0..4 {
        four[lane] = f(eight[lane], eight[lane + 4]);
    }
    f(f(four[0], four[2]), f(four[1], four[3]))
}

/// Copies a row of a tile; whole panels without a call.
#[inline(always)]
pub(super) fn set(to: &mut [f32], from: &[f32]) {
    if let (Some(from), Some(to)) = (from.as_array::<32>(), to.as_mut_array::<32>()) {
        *to = *from;
    } else if let (Some(from), Some(to)) = (from.as_array::<16>(), to.as_mut_array::<16>()) {
        *to = *from;
    } else {
        to.copy_from_slice(from);
    }
}

multiversion! {
    /// `to += from`; a whole panel's row in vectors, without a check of what is left over.
    pub(super) fn add(to: &mut [f32], from: &[f32]) {
        let plain = |to: &mut [f32], from: &[f32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        match (to.as_mut_array::<32>(), from.as_array::<32>()) {
            (Some(to), Some(from)) => plain(to, from),
            _ => plain(to, from),
        }
    }
}

multiversion! {
    /// `x *= factor`.
    pub(super) fn scale(x: &mut [f32], factor: f32) {
        x.iter_mut().for_each(|x| *x *= factor);
    }
}
