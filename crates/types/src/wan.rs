//! Facts of the published Wan2.1 models and of their causal students.
//!
//! Checkpoint readers need them where a model's files are silent, built-in
//! shapes need them whole. Each stands here once, with its source:
//!
//! - Wan2.1: `Wan-Video/Wan2.1` at 9737cba, and the configuration files of
//!   `Wan-AI/Wan2.1-T2V-1.3B` and its `-Diffusers` twin;
//! - the students: `guandeh17/Self-Forcing` at 33593df (arXiv:2506.08009);
//! - the text encoder: `google/umt5-xxl`, `config.json`.

use crate::{
    config::{Sampler, SizedChunk, StepList, TextEncoder, Update, Vae, Video},
    rope::Axis,
};

/// Base of the rotary frequencies (`rope_params` of `wan/modules/model.py`).
pub const THETA: f64 = 10_000.0;
/// Rows of text context.
pub const TEXT_LEN: usize = 512;
/// Picture size and rate at 480p.
pub const VIDEO: Video = Video { width: 832, height: 480, fps: 16 };

/// Timesteps between pure noise and clean frames.
pub const TIMESTEPS: f64 = 1000.0;
/// Entries of the public schedule's table: the most steps a chunk can have.
pub const STEPS_MAX: usize = 1000;
/// Shift of the schedule, of teachers (`wan/configs`) and students alike.
const SHIFT: f64 = 5.0;
/// Steps and guidance of a bidirectional teacher (`wan/configs`).
const TEACHER_STEPS: usize = 50;
const TEACHER_GUIDANCE: f32 = 5.0;
/// Timesteps of a student (`configs/self_forcing_dmd.yaml`).
const STUDENT_STEPS: [f64; 4] = [1000.0, 750.0, 500.0, 250.0];

/// Frames that a student generates together (the same file).
pub const STUDENT_CHUNK: usize = 3;
/// Frames in a student's cache, the chunk among them, where the file asks for
/// no local attention (`local_attn_size` of -1; `pipeline/causal_inference.py`
/// makes room for 32,760 tokens).
pub const STUDENT_FRAMES: usize = 21;

/// Per-channel mean of frame tensors (`wan/modules/vae.py`).
const LATENTS_MEAN: [f32; 16] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
    -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
];
/// Per-channel standard deviation of frame tensors (same file).
const LATENTS_STD: [f32; 16] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
    1.6382, 1.1253, 2.8251, 1.9160,
];

/// Whether timesteps can be a chunk's denoising steps: not too many and at
/// least one, falling, from [`TIMESTEPS`] to above 0.
pub fn is_schedule(timesteps: &[f64]) -> bool {
    (1..=STEPS_MAX).contains(&timesteps.len())
        && timesteps.windows(2).all(|pair| pair[1] < pair[0])
        && timesteps.iter().all(|&timestep| 0.0 < timestep && timestep <= TIMESTEPS)
}

/// The VAE.
pub fn vae() -> Vae {
    Vae {
        decoder_base_dim: 96,
        z_dim: LATENTS_MEAN.len(),
        dim_mult: vec![1, 2, 4, 4],
        res_units: 2,
        temporal_downsample: vec![false, true, true],
        latents_mean: LATENTS_MEAN.to_vec(),
        latents_std: LATENTS_STD.to_vec(),
    }
}

/// The text encoder, UMT5-XXL.
pub fn umt5_xxl() -> TextEncoder {
    TextEncoder {
        vocabulary: 256_384,
        dim: 4096,
        head_dim: 64,
        heads: 64,
        ffn_dim: 10_240,
        layers: 24,
        position_buckets: 32,
        position_distance_max: 128,
        eps: 1e-6,
    }
}

/// How a bidirectional teacher samples: even Euler steps with guidance. Its own
/// solvers are multi-step ones.
pub fn teacher_sampler() -> Sampler {
    sampler(Update::Euler, StepList::Even(TEACHER_STEPS), TEACHER_GUIDANCE)
}

/// How a causal student samples: four warped timesteps with fresh noise between
/// them, and without guidance (arXiv:2605.30351, appendix D, does the same).
pub fn student_sampler() -> Sampler {
    sampler(Update::Renoise, StepList::Warped(STUDENT_STEPS.to_vec()), 1.0)
}

/// Pairs of the frame, row and column axes of a vector `width` wide: `w - 4 (w / 6)`,
/// `2 (w / 6)` and `2 (w / 6)` numbers. An odd width leaves its last number out.
pub fn axis_pairs(width: usize) -> [usize; 3] {
    let side = width / 6;
    [width / 2 - 2 * side, side, side]
}

/// The rotary axes of a dense head.
pub fn dense_axes(head_dim: usize, theta: f64) -> [Axis; 3] {
    axis_pairs(head_dim).map(|pairs| Axis::full(pairs, theta))
}

fn sampler(update: Update, steps: StepList, guidance: f32) -> Sampler {
    let chunk = SizedChunk { steps, guidance };
    Sampler { update, shift: SHIFT, first_chunk: chunk.clone(), later_chunks: chunk }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_fall_within_the_timesteps_and_end_above_zero() {
        assert!(is_schedule(&STUDENT_STEPS));
        let wrong: [&[f64]; 5] = [&[], &[1001.0], &[500.0, 0.0], &[500.0, 500.0], &[f64::NAN]];
        assert!(!wrong.into_iter().any(is_schedule));
        assert!(!is_schedule(&[1.0; STEPS_MAX + 1]));
    }

    #[test]
    fn pairs_of_every_even_width_sum_to_its_half() {
        assert_eq!(axis_pairs(128), [22, 21, 21]);
        for width in (2..300).step_by(2) {
            assert_eq!(axis_pairs(width).iter().sum::<usize>(), width / 2);
        }
    }
}
