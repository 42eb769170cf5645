//! What a process of this program holds, for `plan` and for the check before a
//! video is made.

use backend::Dtype;
use plan::memory::{Engine, Layout};

use crate::generate::FINISHED_CHUNKS_MAX;

/// The engine in a class whose products have these factors.
pub(crate) fn engine(factors: Dtype) -> Engine {
    let layout = match factors {
        Dtype::F32 => Layout::f32(),
        Dtype::Bf16 => Layout::bf16(),
    };
    // One process keeps no chunk to return to.
    Engine { layout, uncommitted_chunks_max: 0, finished_chunks_max: FINISHED_CHUNKS_MAX }
}
