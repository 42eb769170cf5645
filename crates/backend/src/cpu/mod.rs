//! The CPU backend: the reference for every other device.
//!
//! ```text
//!  linear, attention, conv      which tiles to compute, on which thread
//!  rows, frames, volume         norms, rotations, sampler arithmetic, causal history
//!  tile, panel                  products in registers, packed weights
//!  math, lanes, rounding        exp and friends, reductions, f32 to bf16
//!  level, pool, memory          CPU detection, threads, memory
//! ```
//!
//! Each operation runs at once: it returns when its result is there. Work is
//! cut into tasks that write disjoint outputs, and no reduction crosses a task,
//! so results do not depend on the number of threads.

mod attention;
mod biased;
mod conv;
mod frames;
mod lanes;
pub mod level;
mod linear;
pub(crate) mod math;
mod memory;
mod panel;
mod pool;
mod rotation;
mod rounding;
mod rows;
mod tensor;
mod tile;
mod volume;
mod winograd;

use std::ops::Range;

use types::Rope;

use crate::{
    cpu::{
        level::{Level, Usable},
        pool::Pool,
    },
    philox::Draw,
    seam::{
        Activation, Backend, Class, ConvKind, Dtype, Epilogue, Error, FinishQueries, Grid, Heads,
        Keys, MlaPath, MlaShape, PatchGrid, ScaleShift, Weight,
    },
};

pub use attention::Mla;
pub use conv::Conv;
pub use linear::Linear;
pub use rotation::Rotation;
pub use tensor::Matrix;
pub use volume::Volume;

/// The processor of this machine.
#[derive(Debug)]
pub struct Cpu {
    level: Usable,
    class: Class,
    pool: Pool,
}

impl Cpu {
    /// The classes that this processor can compute in.
    pub fn classes() -> impl Iterator<Item = Class> {
        let level = Level::detect();
        Class::ALL.into_iter().filter(move |&class| lowest_level(class) <= level)
    }

    /// The fastest of them.
    ///
    /// Vector dot products are only faster than f32 where a processor has them
    /// at full rate: on Zen 4 a chunk takes 0.67 of the time of f32, on an Intel
    /// server with AMX 1.6 times as long (docs/measurements.md).
    pub fn fastest_class() -> Class {
        match Level::detect() {
            Level::Amx => Class::CpuBf16Amx,
            Level::Avx512Bf16 if level::is_amd() => Class::CpuBf16Avx512,
            Level::Portable | Level::Avx2 | Level::Avx512 | Level::Avx512Bf16 => Class::CpuF32,
        }
    }

    /// A backend over `threads` threads (the caller's included) in this class.
    ///
    /// # Errors
    ///
    /// [`Error::NoClass`] if the processor lacks its instructions;
    /// [`Error::Threads`] if the system refuses so many threads.
    pub fn new(class: Class, threads: usize) -> Result<Self, Error> {
        let level = match class {
            Class::CpuF32 => Level::detect(),
            Class::CpuBf16Avx512 | Class::CpuBf16Amx => lowest_level(class),
        };
        let usable = Usable::at_most(level);
        match usable.get() == level {
            true => Ok(Self { level: usable, class, pool: Pool::new(threads)? }),
            false => Err(Error::NoClass(class)),
        }
    }

    /// A backend in the f32 class, which every processor has.
    ///
    /// # Panics
    ///
    /// If the system refuses so many threads.
    pub fn f32(threads: usize) -> Self {
        Self::f32_at(threads, Level::detect())
    }

    /// The f32 class with at most `level`'s instructions, to compare kernels.
    ///
    /// # Panics
    ///
    /// If the system refuses so many threads.
    pub fn f32_at(threads: usize, level: Level) -> Self {
        let pool = Pool::new(threads).expect("the system starts a few threads");
        Self { level: Usable::at_most(level), class: Class::CpuF32, pool }
    }

    /// Instruction set in use.
    pub fn level(&self) -> Level {
        self.level.get()
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

/// The lowest level that has the instructions of a class.
fn lowest_level(class: Class) -> Level {
    match class {
        Class::CpuF32 => Level::Portable,
        Class::CpuBf16Avx512 => Level::Avx512Bf16,
        Class::CpuBf16Amx => Level::Amx,
    }
}

impl Backend for Cpu {
    type Tensor = Matrix;
    type Linear = Linear;
    type Mla = Mla;
    type Conv = Conv;
    type Volume = Volume;
    type Rotation = Rotation;

    fn class(&self) -> Class {
        self.class
    }

    fn zeros(&self, rows: usize, columns: usize, dtype: Dtype) -> Result<Matrix, Error> {
        Matrix::zeros(rows, columns, dtype)
    }

    fn upload(
        &self,
        rows: usize,
        columns: usize,
        values: &[f32],
        dtype: Dtype,
    ) -> Result<Matrix, Error> {
        Matrix::from_f32(rows, columns, values, dtype)
    }

    fn download(&self, x: &Matrix) -> Result<Vec<f32>, Error> {
        Ok(x.to_f32())
    }

    fn read_rows(&self, x: &Matrix, rows: Range<usize>) -> Result<Vec<u8>, Error> {
        Ok(x.row_bytes(rows))
    }

    fn write_rows(&self, x: &mut Matrix, first_row: usize, bytes: &[u8]) {
        x.set_row_bytes(first_row, bytes);
    }

    fn copy_rows(&self, from: &Matrix, to: &mut Matrix, first_row: usize) {
        rows::copy(self, from, to, first_row);
    }

    fn load_linear(
        &self,
        weight: Weight<'_>,
        bias: Option<&[f32]>,
        dtype: Dtype,
    ) -> Result<Linear, Error> {
        assert!(
            dtype == Dtype::F32 || dtype == self.class.activation(),
            "factors are f32 or the class' activation dtype"
        );
        Linear::load(dtype, weight, bias)
    }

    fn linear_bytes(&self, weights: &Linear) -> u64 {
        weights.bytes()
    }

    fn linear(
        &self,
        x: &Matrix,
        weights: &Linear,
        epilogue: Epilogue<'_, Matrix>,
        out: &mut Matrix,
    ) {
        linear::linear(self, x, weights, &epilogue, out);
    }

    fn add_row(&self, table: &Matrix, base: &Matrix, out: &mut Matrix) {
        rows::add_row(self, table, base, out);
    }

    fn layer_norm(
        &self,
        x: &Matrix,
        scale_shift: ScaleShift<'_, Matrix>,
        eps: f32,
        out: &mut Matrix,
    ) {
        rows::layer_norm(self, x, &scale_shift, eps, out);
    }

    fn rms_norm(&self, x: &Matrix, weight: &Matrix, eps: f32, out: &mut Matrix, first_row: usize) {
        rows::rms_norm(self, x, weight, eps, out, first_row);
    }

    fn round_residual(&self, x: &mut Matrix) {
        if self.class.residual() == Dtype::Bf16 {
            rows::round_to_bf16(self, x);
        }
    }

    fn silu(&self, x: &Matrix, out: &mut Matrix) {
        rows::silu(self, x, out);
    }

    fn rotation(
        &self,
        rope: &Rope,
        positions: &[f64],
        rows: usize,
        columns: usize,
    ) -> Result<Rotation, Error> {
        Ok(Rotation::new(rope, positions, rows, columns))
    }

    fn finish_queries(&self, x: &Matrix, finish: &FinishQueries<'_, Self>, out: &mut Matrix) {
        rotation::finish_queries(self, x, finish, out);
    }

    fn load_mla(
        &self,
        shape: MlaShape,
        path: MlaPath,
        k_up: Weight<'_>,
        v_up: Weight<'_>,
    ) -> Result<Mla, Error> {
        Mla::load(self.class, shape, path, k_up, v_up)
    }

    fn mla_bytes(&self, weights: &Mla) -> u64 {
        weights.bytes()
    }

    fn attend(
        &self,
        queries: &Matrix,
        heads: Heads<'_, Self>,
        keys: &Keys<'_, Self>,
        out: &mut Matrix,
    ) {
        attention::attend(self, queries, &heads, keys, out);
    }

    fn attend_biased(
        &self,
        qkv: &Matrix,
        heads: usize,
        bias: &Matrix,
        mask: &[bool],
        out: &mut Matrix,
    ) {
        biased::attend(self, qkv, heads, bias, mask, out);
    }

    fn patchify(&self, x: &Matrix, grid: PatchGrid, out: &mut Matrix) {
        frames::patchify(self, x, grid, out);
    }

    fn unpatchify(&self, x: &Matrix, grid: PatchGrid, out: &mut Matrix) {
        frames::unpatchify(self, x, grid, out);
    }

    fn noise(&self, draw: Draw, out: &mut Matrix) {
        frames::noise(self, draw, out);
    }

    fn blend(&self, a: f32, x: &mut Matrix, b: f32, y: &Matrix) {
        frames::blend(self, a, x, b, y);
    }

    fn volume(&self, grid: Grid, kind: ConvKind) -> Result<Volume, Error> {
        Volume::new(self.class, grid, kind)
    }

    fn fill(
        &self,
        x: &Matrix,
        frames: Range<usize>,
        activation: Activation<'_, Matrix>,
        volume: &mut Volume,
    ) {
        volume::fill(self, x, frames, &activation, volume);
    }

    fn volume_bytes(&self, volume: &Volume) -> u64 {
        volume.bytes()
    }

    fn load_conv(&self, kind: ConvKind, weight: Weight<'_>, bias: &[f32]) -> Result<Conv, Error> {
        Conv::load(self.class, kind, weight, bias)
    }

    fn conv_bytes(&self, weights: &Conv) -> u64 {
        weights.bytes()
    }

    fn conv(&self, volume: &Volume, weights: &Conv, add: bool, out: &mut Matrix) {
        conv::conv(self, volume, weights, add, out);
    }

    fn channel_norm(&self, x: &Matrix, gamma: &Matrix, out: &mut Matrix) {
        volume::channel_norm(self, x, gamma, out);
    }

    fn download_bytes(&self, x: &Matrix) -> Result<Vec<u8>, Error> {
        Ok(volume::to_bytes(self, x))
    }
}
