//! Frame tensors: patches, noise, and the sampler's arithmetic.

use crate::{
    cpu::{
        Cpu,
        level::multiversion,
        rows,
        tensor::{Matrix, Parts},
    },
    philox::Draw,
    seam::{PatchGrid, Tensor},
};

/// Elements of a task; a multiple of 4, one group of noise.
const BLOCK: usize = 4096;

/// See [`crate::Backend::patchify`].
pub(super) fn patchify(cpu: &Cpu, x: &Matrix, grid: PatchGrid, out: &mut Matrix) {
    assert_eq!((x.rows(), x.columns()), (grid.channels, grid.pixels()), "frame tensors");
    assert_eq!((out.rows(), out.columns()), (grid.tokens(), grid.patch()), "patches");
    let x = x.f32s();
    rows::rows_from(cpu, out, grid.patch(), 0, grid.tokens(), &|token, patch| {
        let mut places = patch.iter_mut();
        for channel in x.chunks_exact(grid.pixels()) {
            for row in 0..grid.patch_rows {
                let pixels = &channel[grid.pixel(token, row)..][..grid.patch_columns];
                for (pixel, place) in pixels.iter().zip(&mut places) {
                    *place = *pixel;
                }
            }
        }
    });
}

/// See [`crate::Backend::unpatchify`].
pub(super) fn unpatchify(cpu: &Cpu, x: &Matrix, grid: PatchGrid, out: &mut Matrix) {
    assert_eq!((x.rows(), x.columns()), (grid.tokens(), grid.patch()), "patches");
    assert_eq!((out.rows(), out.columns()), (grid.channels, grid.pixels()), "frame tensors");
    let x = x.f32s();
    let parts = Parts::new(out.f32s_mut());
    cpu.pool.run(grid.channels, &|channel| {
        // SAFETY: every channel is one task's.
        let pixels = unsafe { parts.part(channel * grid.pixels()..(channel + 1) * grid.pixels()) };
        for (token, patch) in x.chunks_exact(grid.patch()).enumerate() {
            let mut values = patch[channel..].iter().step_by(grid.channels);
            for row in 0..grid.patch_rows {
                let pixels = &mut pixels[grid.pixel(token, row)..][..grid.patch_columns];
                for (pixel, value) in pixels.iter_mut().zip(&mut values) {
                    *pixel = *value;
                }
            }
        }
    });
}

impl PatchGrid {
    /// Tokens of all frames.
    pub fn tokens(&self) -> usize {
        self.frames * self.rows * self.columns
    }

    /// Values of one patch.
    pub fn patch(&self) -> usize {
        self.channels * self.patch_rows * self.patch_columns
    }

    /// Values of one channel of all frames.
    pub fn pixels(&self) -> usize {
        self.tokens() * self.patch_rows * self.patch_columns
    }

    /// Where a row of a patch begins in a channel.
    fn pixel(&self, token: usize, patch_row: usize) -> usize {
        let column = token % self.columns * self.patch_columns;
        let row = token / self.columns % self.rows * self.patch_rows + patch_row;
        let frame = token / (self.columns * self.rows);
        let width = self.columns * self.patch_columns;
        (frame * self.rows * self.patch_rows + row) * width + column
    }
}

/// See [`crate::Backend::noise`].
pub(super) fn noise(cpu: &Cpu, draw: Draw, out: &mut Matrix) {
    let out = out.f32s_mut();
    let len = out.len();
    let parts = Parts::new(out);
    cpu.pool.run(len.div_ceil(BLOCK), &|block| {
        let range = block * BLOCK..len.min((block + 1) * BLOCK);
        let first = u32::try_from(block * BLOCK / 4).expect("a chunk has fewer than 2^34 values");
        // SAFETY: blocks are disjoint.
        noise_block(cpu.level, draw, first, unsafe { parts.part(range) });
    });
}

multiversion! {
    fn noise_block(draw: Draw, first_group: u32, out: &mut [f32]) {
        for (group, out) in (first_group..).zip(out.chunks_mut(4)) {
            let normals = draw.normals(group);
            out.copy_from_slice(&normals[..out.len()]);
        }
    }
}

/// See [`crate::Backend::blend`].
pub(super) fn blend(cpu: &Cpu, a: f32, x: &mut Matrix, b: f32, y: &Matrix) {
    assert_eq!((x.rows(), x.columns()), (y.rows(), y.columns()), "tensors of one shape");
    let len = x.f32s().len();
    let y = y.f32s();
    let parts = Parts::new(x.f32s_mut());
    cpu.pool.run(len.div_ceil(BLOCK), &|block| {
        let range = block * BLOCK..len.min((block + 1) * BLOCK);
        // SAFETY: blocks are disjoint.
        blend_block(cpu.level, a, unsafe { parts.part(range.clone()) }, b, &y[range]);
    });
}

multiversion! {
    fn blend_block(a: f32, x: &mut [f32], b: f32, y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = a.mul_add(*x, b * y);
        }
    }
}
