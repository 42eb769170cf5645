//! One resolution of the decoder: residual units, then the way to the next one.

use std::ops::Range;

use backend::{Activation, Backend, ConvKind, Dtype, Grid, Tensor};
use types::Vae;

use super::{
    conv,
    unit::{Unit, UnitState},
};
use crate::{Error, load::Loader};

/// A stage's weights.
#[derive(Debug)]
pub(super) struct Stage<B: Backend> {
    channels: usize,
    units: Vec<Unit<B>>,
    /// Twice the frames; absent where time keeps its pace.
    time: Option<B::Conv>,
    /// Twice the rows and columns, half the channels; absent in the last stage.
    space: Option<B::Conv>,
}

/// A stage's history and scratch in one stream, for one frame.
#[derive(Debug)]
pub(super) struct StageState<B: Backend> {
    /// The first unit's input, if that unit changes the channels.
    input: Option<B::Tensor>,
    /// `[pixels, channels]` f32.
    x: B::Tensor,
    units: Vec<UnitState<B>>,
    time: Option<TimeState<B>>,
    space: Option<B::Volume>,
}

#[derive(Debug)]
struct TimeState<B: Backend> {
    volume: B::Volume,
    /// `[2 * pixels, channels]` f32.
    doubled: B::Tensor,
    /// Whether the frame at hand was doubled: the first one of a video is not.
    filled: bool,
}

impl<B: Backend> Stage<B> {
    /// Loads stage `index`, whose input has `inputs` channels.
    pub(super) fn load(
        backend: &B,
        loader: &Loader<'_, B>,
        config: &Vae,
        index: usize,
        inputs: usize,
        channels: usize,
    ) -> Result<Self, Error> {
        let name = format!("decoder.up_blocks.{index}");
        let unit = |unit: usize| {
            let inputs = if unit == 0 { inputs } else { channels };
            Unit::load(backend, loader, &format!("{name}.resnets.{unit}"), inputs, channels)
        };
        let units = (0..=config.res_units).map(unit).collect::<Result<_, _>>()?;
        let mut stage = Self { channels, units, time: None, space: None };
        // The encoder's last downsampling is the decoder's first upsampling.
        let mirror = (config.dim_mult.len() - 1).checked_sub(index + 1);
        if let Some(mirror) = mirror {
            let name = format!("{name}.upsamplers.0");
            if config.temporal_downsample[mirror] {
                let name = format!("{name}.time_conv");
                let kind = ConvKind::DoubleTime;
                stage.time = Some(conv(backend, loader, &name, kind, 2 * channels, channels)?);
            }
            let (name, n) = (format!("{name}.resample.1"), channels / 2);
            stage.space = Some(conv(backend, loader, &name, ConvKind::DoubleSpace, n, channels)?);
        }
        Ok(stage)
    }

    /// Channels of what leaves the stage.
    pub(super) fn outputs(&self) -> usize {
        if self.doubles() { self.channels / 2 } else { self.channels }
    }

    /// Whether rows and columns are doubled on the way out.
    pub(super) fn doubles(&self) -> bool {
        self.space.is_some()
    }

    /// Frames that leave per frame that enters, after the first frame.
    pub(super) fn time_scale(&self) -> usize {
        if self.time.is_some() { 2 } else { 1 }
    }

    pub(super) fn state(
        &self,
        backend: &B,
        rows: usize,
        columns: usize,
    ) -> Result<StageState<B>, Error> {
        let grid = Grid { frames: 1, rows, columns, channels: self.channels };
        let zeros =
            |frames: usize, channels| backend.zeros(frames * rows * columns, channels, Dtype::F32);
        let inputs = self.units[0].channels();
        let time = match self.time {
            None => None,
            Some(_) => Some(TimeState {
                volume: backend.volume(grid, ConvKind::DoubleTime)?,
                doubled: zeros(2, self.channels)?,
                filled: false,
            }),
        };
        Ok(StageState {
            input: (inputs != self.channels).then(|| zeros(1, inputs)).transpose()?,
            x: zeros(1, self.channels)?,
            units: self
                .units
                .iter()
                .map(|unit| unit.state(backend, rows, columns))
                .collect::<Result<_, _>>()?,
            time,
            space: self
                .doubles()
                .then(|| backend.volume(grid, ConvKind::DoubleSpace))
                .transpose()?,
        })
    }

    /// Runs the units over the frame in the state's input.
    pub(super) fn refine(&self, backend: &B, state: &mut StageState<B>) {
        let StageState { input, x, units, .. } = state;
        for (index, (unit, state)) in self.units.iter().zip(units).enumerate() {
            match (index, &input) {
                (0, Some(input)) => unit.run(backend, state, input, x),
                _ => unit.run_in_place(backend, state, x),
            }
        }
    }

    /// Doubles the refined frame in time, unless it is the video's first or this
    /// stage keeps the pace. Returns the frames to go on with.
    pub(super) fn double_time(
        &self,
        backend: &B,
        state: &mut StageState<B>,
        first: bool,
    ) -> Range<usize> {
        let (Some(conv), Some(time)) = (&self.time, &mut state.time) else {
            return 0..1;
        };
        time.filled = !first;
        if first {
            return 0..1;
        }
        backend.fill(&state.x, 0..1, Activation::None, &mut time.volume);
        backend.conv(&time.volume, conv, false, &mut time.doubled);
        0..2
    }

    /// Doubles one of the frames that [`Stage::double_time`] left in space.
    pub(super) fn double_space(
        &self,
        backend: &B,
        state: &mut StageState<B>,
        frame: usize,
        out: &mut B::Tensor,
    ) {
        let (Some(conv), Some(volume)) = (&self.space, &mut state.space) else {
            unreachable!("the last stage leads nowhere");
        };
        let x = match &state.time {
            Some(time) if time.filled => &time.doubled,
            _ => &state.x,
        };
        backend.fill(x, frame..frame + 1, Activation::None, volume);
        backend.conv(volume, conv, false, out);
    }
}

impl<B: Backend> StageState<B> {
    /// Where the stage's next frame is put.
    pub(super) fn input(&mut self) -> &mut B::Tensor {
        self.input.as_mut().unwrap_or(&mut self.x)
    }

    /// The refined frame.
    pub(super) fn output(&self) -> &B::Tensor {
        &self.x
    }

    pub(super) fn bytes(&self, backend: &B) -> u64 {
        let units: u64 = self.units.iter().map(|unit| unit.bytes(backend)).sum();
        let time = self
            .time
            .as_ref()
            .map_or(0, |time| backend.volume_bytes(&time.volume) + time.doubled.bytes());
        let space = self.space.as_ref().map_or(0, |volume| backend.volume_bytes(volume));
        units + time + space + self.x.bytes() + self.input.as_ref().map_or(0, Tensor::bytes)
    }
}
