//! A device that computes nothing and keeps account of its memory.
//!
//! Everything is allocated as the processor's backend does it, and counted while
//! it lives; operations return at once, attention once the tiles that it would
//! hold are counted. So a whole film runs through the real model in no time, and
//! what it held is known to the byte.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use backend::{
    Activation, Backend, Class, ConvKind, Cpu, Dtype, Epilogue, Error, FinishQueries, Grid, Heads,
    Keys, MlaPath, MlaShape, PatchGrid, ScaleShift, Tensor, Weight,
    cpu::{Conv, Linear, Matrix, Mla, Rotation, Volume},
    philox::Draw,
};
use types::Rope;

/// The device.
#[derive(Debug)]
pub(crate) struct Device {
    cpu: Cpu,
    account: Arc<Account>,
}

/// Bytes that are held, and the most that ever were.
#[derive(Debug, Default)]
struct Account {
    held: AtomicU64,
    peak: AtomicU64,
}

/// Something in the device's memory.
#[derive(Debug)]
pub(crate) struct Held<T> {
    inner: T,
    bytes: u64,
    account: Arc<Account>,
}

impl Device {
    pub(crate) fn new(cpu: Cpu) -> Self {
        Self { cpu, account: Arc::default() }
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        self.account.held.load(SeqCst)
    }

    /// The most bytes that were ever held.
    pub(crate) fn peak(&self) -> u64 {
        self.account.peak.load(SeqCst)
    }

    fn hold<T>(&self, inner: T, bytes: u64) -> Held<T> {
        let before = self.account.held.fetch_add(bytes, SeqCst);
        self.account.peak.fetch_max(before + bytes, SeqCst);
        Held { inner, bytes, account: Arc::clone(&self.account) }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes, SeqCst);
    }
}

impl Tensor for Held<Matrix> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn columns(&self) -> usize {
        self.inner.columns()
    }

    fn dtype(&self) -> Dtype {
        self.inner.dtype()
    }
}

impl Backend for Device {
    type Tensor = Held<Matrix>;
    type Linear = Held<Linear>;
    type Mla = Held<Mla>;
    type Conv = Held<Conv>;
    type Volume = Held<Volume>;
    type Rotation = Rotation;

    fn class(&self) -> Class {
        self.cpu.class()
    }

    fn zeros(&self, rows: usize, columns: usize, dtype: Dtype) -> Result<Held<Matrix>, Error> {
        let matrix = self.cpu.zeros(rows, columns, dtype)?;
        let bytes = matrix.bytes();
        Ok(self.hold(matrix, bytes))
    }

    fn upload(
        &self,
        rows: usize,
        columns: usize,
        _: &[f32],
        dtype: Dtype,
    ) -> Result<Held<Matrix>, Error> {
        self.zeros(rows, columns, dtype)
    }

    fn download(&self, x: &Held<Matrix>) -> Result<Vec<f32>, Error> {
        self.cpu.download(&x.inner)
    }

    fn download_bytes(&self, x: &Held<Matrix>) -> Result<Vec<u8>, Error> {
        self.cpu.download_bytes(&x.inner)
    }

    fn read_rows(&self, x: &Held<Matrix>, rows: Range<usize>) -> Result<Vec<u8>, Error> {
        self.cpu.read_rows(&x.inner, rows)
    }

    fn load_linear(
        &self,
        weight: Weight<'_>,
        bias: Option<&[f32]>,
        dtype: Dtype,
    ) -> Result<Held<Linear>, Error> {
        let linear = self.cpu.load_linear(weight, bias, dtype)?;
        let bytes = self.cpu.linear_bytes(&linear);
        Ok(self.hold(linear, bytes))
    }

    fn load_mla(
        &self,
        shape: MlaShape,
        path: MlaPath,
        k_up: Weight<'_>,
        v_up: Weight<'_>,
    ) -> Result<Held<Mla>, Error> {
        let mla = self.cpu.load_mla(shape, path, k_up, v_up)?;
        let bytes = self.cpu.mla_bytes(&mla);
        Ok(self.hold(mla, bytes))
    }

    fn load_conv(
        &self,
        kind: ConvKind,
        weight: Weight<'_>,
        bias: &[f32],
    ) -> Result<Held<Conv>, Error> {
        let conv = self.cpu.load_conv(kind, weight, bias)?;
        let bytes = self.cpu.conv_bytes(&conv);
        Ok(self.hold(conv, bytes))
    }

    fn linear_bytes(&self, weights: &Held<Linear>) -> u64 {
        weights.bytes
    }

    fn mla_bytes(&self, weights: &Held<Mla>) -> u64 {
        weights.bytes
    }

    fn conv_bytes(&self, weights: &Held<Conv>) -> u64 {
        weights.bytes
    }

    fn volume(&self, grid: Grid, kind: ConvKind) -> Result<Held<Volume>, Error> {
        let volume = self.cpu.volume(grid, kind)?;
        let bytes = self.cpu.volume_bytes(&volume);
        Ok(self.hold(volume, bytes))
    }

    fn volume_bytes(&self, volume: &Held<Volume>) -> u64 {
        volume.bytes
    }

    fn rotation(
        &self,
        rope: &Rope,
        positions: &[f64],
        rows: usize,
        columns: usize,
    ) -> Result<Rotation, Error> {
        self.cpu.rotation(rope, positions, rows, columns)
    }

    fn write_rows(&self, _: &mut Held<Matrix>, _: usize, _: &[u8]) {}
    fn copy_rows(&self, _: &Held<Matrix>, _: &mut Held<Matrix>, _: usize) {}

    fn linear(
        &self,
        _: &Held<Matrix>,
        _: &Held<Linear>,
        _: Epilogue<'_, Held<Matrix>>,
        _: &mut Held<Matrix>,
    ) {
    }

    fn add_row(&self, _: &Held<Matrix>, _: &Held<Matrix>, _: &mut Held<Matrix>) {}

    fn layer_norm(
        &self,
        _: &Held<Matrix>,
        _: ScaleShift<'_, Held<Matrix>>,
        _: f32,
        _: &mut Held<Matrix>,
    ) {
    }

    fn rms_norm(&self, _: &Held<Matrix>, _: &Held<Matrix>, _: f32, _: &mut Held<Matrix>, _: usize) {
    }

    fn round_residual(&self, _: &mut Held<Matrix>) {}
    fn silu(&self, _: &Held<Matrix>, _: &mut Held<Matrix>) {}

    fn finish_queries(&self, _: &Held<Matrix>, _: &FinishQueries<'_, Self>, _: &mut Held<Matrix>) {}

    fn attend(
        &self,
        queries: &Held<Matrix>,
        heads: Heads<'_, Self>,
        keys: &Keys<'_, Self>,
        _: &mut Held<Matrix>,
    ) {
        let heads = match heads {
            Heads::Dense { heads, head_dim } => Heads::Dense { heads, head_dim },
            Heads::Mla(mla) => Heads::Mla(&mla.inner),
        };
        let Keys { cache, segments, rotation } = *keys;
        let keys = Keys { cache: &cache.inner, segments, rotation };
        drop(self.hold((), self.cpu.attention_bytes(&queries.inner, &heads, &keys)));
    }

    fn attend_biased(
        &self,
        _: &Held<Matrix>,
        _: usize,
        _: &Held<Matrix>,
        _: &[bool],
        _: &mut Held<Matrix>,
    ) {
    }

    fn patchify(&self, _: &Held<Matrix>, _: PatchGrid, _: &mut Held<Matrix>) {}
    fn unpatchify(&self, _: &Held<Matrix>, _: PatchGrid, _: &mut Held<Matrix>) {}
    fn noise(&self, _: Draw, _: &mut Held<Matrix>) {}
    fn blend(&self, _: f32, _: &mut Held<Matrix>, _: f32, _: &Held<Matrix>) {}

    fn fill(
        &self,
        _: &Held<Matrix>,
        _: Range<usize>,
        _: Activation<'_, Held<Matrix>>,
        _: &mut Held<Volume>,
    ) {
    }

    fn conv(&self, _: &Held<Volume>, _: &Held<Conv>, _: bool, _: &mut Held<Matrix>) {}
    fn channel_norm(&self, _: &Held<Matrix>, _: &Held<Matrix>, _: &mut Held<Matrix>) {}
}
