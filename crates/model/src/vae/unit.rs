//! A residual unit: two causal convolutions behind norm and SiLU.
//!
//! ```text
//! out = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))
//! ```
//!
//! The shortcut is a matrix where the number of channels changes, else nothing,
//! and then the unit works in place.

use backend::{Activation, Backend, ConvKind, Dtype, Epilogue, Grid, Tensor};

use super::conv;
use crate::{
    Error,
    load::{Loader, Precision},
};

/// A unit's weights.
#[derive(Debug)]
pub(super) struct Unit<B: Backend> {
    channels: usize,
    n: usize,
    norms: [B::Tensor; 2],
    convs: [B::Conv; 2],
    shortcut: Option<B::Linear>,
}

/// A unit's causal history in one stream.
#[derive(Debug)]
pub(super) struct UnitState<B: Backend> {
    volumes: [B::Volume; 2],
    /// What is between the convolutions: `[pixels, n]` f32.
    hidden: B::Tensor,
}

impl<B: Backend> Unit<B> {
    pub(super) fn load(
        backend: &B,
        loader: &Loader<'_, B>,
        name: &str,
        channels: usize,
        n: usize,
    ) -> Result<Self, Error> {
        let norm = |index: usize, channels: usize| {
            loader.row(&format!("{name}.norm{index}.gamma"), &[channels, 1, 1, 1])
        };
        let conv = |index: usize, channels: usize| {
            let name = format!("{name}.conv{index}");
            conv(backend, loader, &name, ConvKind::Causal3, n, channels)
        };
        let shortcut = match channels == n {
            true => None,
            false => {
                let (name, shape) = (format!("{name}.conv_shortcut"), [n, channels, 1, 1, 1]);
                Some(loader.shaped(&name, &shape, true, Precision::Full)?)
            }
        };
        Ok(Self {
            channels,
            n,
            norms: [norm(1, channels)?, norm(2, n)?],
            convs: [conv(1, channels)?, conv(2, n)?],
            shortcut,
        })
    }

    /// Channels of the input.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn state(
        &self,
        backend: &B,
        rows: usize,
        columns: usize,
    ) -> Result<UnitState<B>, Error> {
        let volume = |channels: usize| {
            let grid = Grid { frames: 1, rows, columns, channels };
            backend.volume(grid, ConvKind::Causal3)
        };
        Ok(UnitState {
            volumes: [volume(self.channels)?, volume(self.n)?],
            hidden: backend.zeros(rows * columns, self.n, Dtype::F32)?,
        })
    }

    /// One frame from `x` to `out`, for a unit that changes the channels.
    pub(super) fn run(
        &self,
        backend: &B,
        state: &mut UnitState<B>,
        x: &B::Tensor,
        out: &mut B::Tensor,
    ) {
        let shortcut = self.shortcut.as_ref().expect("this unit changes the channels");
        self.hide(backend, state, x);
        backend.linear(x, shortcut, Epilogue::Store, out);
        backend.conv(&state.volumes[1], &self.convs[1], true, out);
    }

    /// One frame in place, for a unit that keeps the channels.
    pub(super) fn run_in_place(&self, backend: &B, state: &mut UnitState<B>, x: &mut B::Tensor) {
        self.hide(backend, state, x);
        backend.conv(&state.volumes[1], &self.convs[1], true, x);
    }

    /// Everything before the second convolution.
    fn hide(&self, backend: &B, state: &mut UnitState<B>, x: &B::Tensor) {
        let UnitState { volumes: [first, second], hidden } = state;
        backend.fill(x, 0..1, Activation::NormSilu(&self.norms[0]), first);
        backend.conv(first, &self.convs[0], false, hidden);
        backend.fill(hidden, 0..1, Activation::NormSilu(&self.norms[1]), second);
    }
}

impl<B: Backend> UnitState<B> {
    pub(super) fn bytes(&self, backend: &B) -> u64 {
        let volumes = self.volumes.iter().map(|volume| backend.volume_bytes(volume));
        volumes.sum::<u64>() + self.hidden.bytes()
    }
}
