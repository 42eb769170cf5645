//! The seam: the operations a device must offer.
//!
//! The model is written once over [`Backend`]. The operations are fused as a
//! GPU wants them (a product with its epilogue, a norm with its modulation,
//! attention over a window of cached rows), because loose tensor operators cost
//! a round trip through memory each, on a CPU as much as on a GPU.
//!
//! What the seam promises to a device:
//!
//! - **Resident tensors.** A [`Backend::Tensor`] lives on the device. Values
//!   cross to the host only in three *reads*: [`Backend::download`],
//!   [`Backend::download_bytes`] and [`Backend::read_rows`].
//! - **One queue.** A backend value is an in-order queue of work: an operation
//!   may return before it has run, later operations see its result, and only
//!   the reads wait. A device with several streams hands out several
//!   backend values.
//! - **No fault mid-pass.** Operations do not return errors; shapes are checked
//!   by assertion, since only our own bug can break them. A device that fails
//!   reports it at the next read.
//!
//! All tensors are row-major matrices. Rows are tokens (or pixels, or keys),
//! columns are channels; heads stand side by side in the columns. A *frame
//! table* is a tensor with one row per frame of the chunk, so row `r` of a
//! tensor with `n` rows belongs to row `r / (n / frames)` of the table.
//!
//! Invariant: nothing here names a model. Sources of the formulas are in the
//! `model` crate, where the operations are put together.

mod operands;

use std::{fmt::Debug, ops::Range};

use types::Rope;
pub use types::{Class, Dtype};

pub use operands::{
    Activation, ConvKind, Epilogue, Error, FinishQueries, Grid, Heads, Keys, MlaPath, MlaShape,
    PatchGrid, ScaleShift, Weight,
};

/// A device, and the queue of work on it.
pub trait Backend: Debug + Send + Sync + 'static {
    /// A matrix in device memory.
    type Tensor: Tensor;
    /// A linear layer's weights in the device's own layout.
    type Linear: Debug + Send + Sync;
    /// MLA's up-projections in the device's own layout.
    type Mla: Debug + Send + Sync;
    /// A convolution's weights in the device's own layout.
    type Conv: Debug + Send + Sync;
    /// A convolution's input: frames with causal history.
    type Volume: Debug + Send + Sync;
    /// Cosines and sines for the frames, rows and columns of a window.
    type Rotation: Debug + Send + Sync;

    /// The numeric class all results belong to.
    fn class(&self) -> Class;

    // Memory.

    /// A tensor of zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room.
    fn zeros(&self, rows: usize, columns: usize, dtype: Dtype) -> Result<Self::Tensor, Error>;

    /// A tensor with these values, rounded to `dtype`.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room.
    fn upload(
        &self,
        rows: usize,
        columns: usize,
        values: &[f32],
        dtype: Dtype,
    ) -> Result<Self::Tensor, Error>;

    /// The values of a tensor, row by row. Waits for the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if an earlier operation failed.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>, Error>;

    /// The exact bytes of some rows (little-endian, no padding). Waits for the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if an earlier operation failed.
    fn read_rows(&self, x: &Self::Tensor, rows: Range<usize>) -> Result<Vec<u8>, Error>;

    /// Puts back what [`Backend::read_rows`] gave, from row `first_row` on.
    fn write_rows(&self, x: &mut Self::Tensor, first_row: usize, bytes: &[u8]);

    /// Copies all of `from` into `to`, starting at row `first_row`; converts the dtype.
    fn copy_rows(&self, from: &Self::Tensor, to: &mut Self::Tensor, first_row: usize);

    // Products.

    /// Loads a weight `[n, k]` (row-major, `y = x W^T + b`) and its bias `[n]`.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room; [`Error::OddWidth`] if the
    /// dtype needs an even `k`.
    fn load_linear(
        &self,
        weight: Weight<'_>,
        bias: Option<&[f32]>,
        dtype: Dtype,
    ) -> Result<Self::Linear, Error>;

    /// Bytes that the layer holds on the device, padding included.
    fn linear_bytes(&self, weights: &Self::Linear) -> u64;

    /// `out = epilogue(x W^T + b)`; `x` is `[m, k]` in the dtype that the weights
    /// were loaded in (f32 or the class' activation dtype), `out` `[m, n]` in
    /// either.
    fn linear(
        &self,
        x: &Self::Tensor,
        weights: &Self::Linear,
        epilogue: Epilogue<'_, Self::Tensor>,
        out: &mut Self::Tensor,
    );

    // Rows.

    /// `out = table + base`, where `base` has one row `[1, n * dim]` and `out` is
    /// `[frames, n * dim]`: a layer's modulation vectors for every frame. A table
    /// of only `dim` columns is repeated.
    fn add_row(&self, table: &Self::Tensor, base: &Self::Tensor, out: &mut Self::Tensor);

    /// Layer normalisation over the columns, then scale and shift.
    fn layer_norm(
        &self,
        x: &Self::Tensor,
        scale_shift: ScaleShift<'_, Self::Tensor>,
        eps: f32,
        out: &mut Self::Tensor,
    );

    /// `out = x / rms(x) * weight` over the first `weight.columns()` columns;
    /// further columns are copied. With `first_row`, rows go to `out` from there
    /// on: that is how latents enter the cache.
    fn rms_norm(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
        out: &mut Self::Tensor,
        first_row: usize,
    );

    /// Rounds an f32 tensor to the class' residual dtype, in place. The residual
    /// is rounded at every layer boundary, whether or not a hop follows.
    fn round_residual(&self, x: &mut Self::Tensor);

    /// `SiLU(x)`, into any dtype.
    fn silu(&self, x: &Self::Tensor, out: &mut Self::Tensor);

    // Attention.

    /// Cosines and sines for tokens whose frames stand at `positions` and whose
    /// rows and columns count from zero.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room.
    fn rotation(
        &self,
        rope: &Rope,
        positions: &[f64],
        rows: usize,
        columns: usize,
    ) -> Result<Self::Rotation, Error>;

    /// Makes queries ready for [`Backend::attend`]: optional RMS norm over all
    /// columns, rotation of the last `rotated` channels of every head, and
    /// softmax scale. `x` is f32 `[tokens, heads * head_dim]`; token `t` has the
    /// position of token `first_token + t` of the rotation.
    fn finish_queries(
        &self,
        x: &Self::Tensor,
        finish: &FinishQueries<'_, Self>,
        out: &mut Self::Tensor,
    ) where
        Self: Sized;

    /// Loads MLA's up-projections `k_up [heads * nope, kv_rank]` and
    /// `v_up [heads * value, kv_rank]`.
    ///
    /// # Errors
    ///
    /// As [`Backend::load_linear`].
    fn load_mla(
        &self,
        shape: MlaShape,
        path: MlaPath,
        k_up: Weight<'_>,
        v_up: Weight<'_>,
    ) -> Result<Self::Mla, Error>;

    /// Bytes that the up-projections hold on the device, padding included.
    fn mla_bytes(&self, weights: &Self::Mla) -> u64;

    /// Attends finished queries to cached rows; `out` is
    /// `[tokens, heads * value]` in the activation dtype.
    fn attend(
        &self,
        queries: &Self::Tensor,
        heads: Heads<'_, Self>,
        keys: &Keys<'_, Self>,
        out: &mut Self::Tensor,
    ) where
        Self: Sized;

    /// Bidirectional attention with an additive bias and no scaling, as T5 has
    /// it: `qkv` is `[tokens, 3 * heads * head_dim]` f32, `bias`
    /// `[heads * tokens, tokens]`; keys whose `mask` is false are not seen.
    fn attend_biased(
        &self,
        qkv: &Self::Tensor,
        heads: usize,
        bias: &Self::Tensor,
        mask: &[bool],
        out: &mut Self::Tensor,
    );

    // Frames.

    /// Patches of the frame tensors: from f32 `[channels, frames * height * width]`
    /// to `[tokens, channels * patch rows * patch columns]`.
    fn patchify(&self, x: &Self::Tensor, grid: PatchGrid, out: &mut Self::Tensor);

    /// The inverse, from rows `(patch row, patch column, channel)` as the head
    /// writes them.
    fn unpatchify(&self, x: &Self::Tensor, grid: PatchGrid, out: &mut Self::Tensor);

    /// Fills `out` with standard normal noise (see [`crate::philox`]).
    fn noise(&self, draw: crate::philox::Draw, out: &mut Self::Tensor);

    /// `x = a x + b y`, all f32.
    fn blend(&self, a: f32, x: &mut Self::Tensor, b: f32, y: &Self::Tensor);

    // Convolutions.

    /// A volume for frames of this grid, with zero history.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room.
    fn volume(&self, grid: Grid, kind: ConvKind) -> Result<Self::Volume, Error>;

    /// Puts frames of `x` into the volume, as they are or through the VAE's
    /// channel norm and SiLU; what was filled in before becomes history. `x` is
    /// f32 `[any frames * rows * columns, channels]`, and `frames` are at most as
    /// many as the grid's.
    fn fill(
        &self,
        x: &Self::Tensor,
        frames: Range<usize>,
        activation: Activation<'_, Self::Tensor>,
        volume: &mut Self::Volume,
    );

    /// Bytes that the volume holds on the device.
    fn volume_bytes(&self, volume: &Self::Volume) -> u64;

    /// Loads a kernel: `[n, channels * taps]` in the file's own order
    /// `[n, channels, time, rows, columns]`. Any number of channels will do.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the device has no room.
    fn load_conv(
        &self,
        kind: ConvKind,
        weight: Weight<'_>,
        bias: &[f32],
    ) -> Result<Self::Conv, Error>;

    /// Bytes that the kernel holds on the device, padding included. Transformed
    /// weights are more than the file's: 16/9 with Winograd's on the CPU.
    fn conv_bytes(&self, weights: &Self::Conv) -> u64;

    /// Convolves the frames that were filled in last; `out` is f32
    /// `[frames' * rows' * columns', n']` with the sizes that the kind gives.
    /// With `add`, the result is added to what is in `out` (a residual).
    fn conv(&self, volume: &Self::Volume, weights: &Self::Conv, add: bool, out: &mut Self::Tensor);

    /// The VAE's channel norm without SiLU, into any dtype.
    fn channel_norm(&self, x: &Self::Tensor, gamma: &Self::Tensor, out: &mut Self::Tensor);

    /// The values of an f32 tensor as bytes: -1 becomes 0 and 1 becomes 255,
    /// rounded half up, clamped. Waits for the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if an earlier operation failed.
    fn download_bytes(&self, x: &Self::Tensor) -> Result<Vec<u8>, Error>;
}

/// What every backend's tensor can tell without waiting.
pub trait Tensor: Debug + Send + Sync {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of columns.
    fn columns(&self) -> usize;
    /// Type of the elements.
    fn dtype(&self) -> Dtype;
    /// Bytes held on the device.
    fn bytes(&self) -> u64 {
        (self.rows() * self.columns() * self.dtype().bytes()) as u64
    }
}
