//! What a process of this program holds, for `plan` and for the check before a
//! video is made.

use backend::{Cpu, Dtype};
use plan::memory::{Budget, DoesNotFit, Engine, Layout, Memory};

use crate::generate::FINISHED_CHUNKS_MAX;

/// The engine in a class whose products have these factors.
pub(crate) fn engine(factors: Dtype) -> Engine {
    let layout = match factors {
        Dtype::F32 => Layout::f32(),
        Dtype::Bf16 => Layout::bf16(),
    };
    // One process keeps no chunk to return to.
    Engine {
        layout,
        tiles: Cpu::TILES,
        uncommitted_chunks_max: 0,
        finished_chunks_max: FINISHED_CHUNKS_MAX,
    }
}

/// Checks that everything that is to be held at once fits into what the system
/// has. Beside it stay free: `results_bytes`, room for the program, its encoder
/// and what is read of the weight files, for its threads, and a twentieth for
/// everybody else.
///
/// # Errors
///
/// [`DoesNotFit`], of the first that does not.
pub(crate) fn fits(
    all: &[Memory],
    results_bytes: u64,
    available_bytes: Option<u64>,
    threads: usize,
) -> Result<(), DoesNotFit> {
    const PROGRAM_BYTES: u64 = 64 << 20;
    /// A thread's stack and what its tasks work in: a tile of attention's
    /// queries, keys and values, or twelve squares of a convolution.
    const THREAD_BYTES: u64 = 2 << 20;
    let Some(mut available_bytes) = available_bytes else { return Ok(()) };
    let threads_bytes = THREAD_BYTES.saturating_mul(threads as u64);
    let headroom_bytes =
        (PROGRAM_BYTES + threads_bytes + available_bytes / 20).saturating_add(results_bytes);
    for memory in all {
        memory.fits(Budget { available_bytes, headroom_bytes })?;
        available_bytes -= memory.total_bytes;
    }
    Ok(())
}
