//! The seam of fused tensor operations, and the CPU behind it.
//!
//! - [`seam`]: the [`Backend`] trait, everything the model needs of a device.
//! - [`cpu`]: the reference implementation.
//! - [`philox`]: noise as a pure function, the same on every device.
//! - [`mapped`]: files in memory.
//!
//! This is the only crate that may contain `unsafe`. It knows shapes and
//! formulas, but no model, no checkpoint and no job.

pub mod cpu;
pub mod mapped;
pub mod philox;
pub mod seam;

pub use cpu::Cpu;
pub use mapped::MappedFile;
pub use seam::{
    Activation, Backend, Class, ConvKind, Dtype, Epilogue, Error, FinishQueries, Grid, Heads, Keys,
    MlaPath, MlaShape, PatchGrid, ScaleShift, Tensor, Weight,
};
