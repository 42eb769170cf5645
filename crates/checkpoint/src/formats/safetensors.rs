//! Safetensors files: a JSON header with shapes and offsets, then the data.
//!
//! The header is parsed and validated by the `safetensors` crate: offsets in
//! order, without gaps or overlaps, sizes matching shapes, and the file exactly
//! as long as all of them together.

use std::sync::Arc;

use safetensors::{Dtype as FileDtype, SafeTensorError, SafeTensors};

use super::{ByName, Layout, StoredDtype, StoredTensor, check_bounds};
use crate::{Bytes, Dtype, Error, Result};

/// Bytes of the header's length, which open the file.
const LENGTH_BYTES: usize = 8;
/// A header of ten thousand tensors takes about 1.5 MB, and parsing takes some
/// ten times its length.
const HEADER_BYTES_MAX: u64 = 16 << 20;

/// The tensors of a file; `file` is its name in messages.
///
/// # Errors
///
/// [`Error::Corrupt`] if the file is truncated or its header is damaged.
pub(crate) fn read(file: &str, bytes: &Bytes) -> Result<ByName> {
    let corrupt = |problem| Error::Corrupt { file: file.to_owned(), problem };
    if let Some(length) = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
        && HEADER_BYTES_MAX < length
    {
        return Err(corrupt(format!("is no intact safetensors file: a header of {length} bytes")));
    }
    let (header_bytes, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| corrupt(explain(&error, bytes)))?;
    let data_start = LENGTH_BYTES.saturating_add(header_bytes);
    let name: Arc<str> = file.into();
    let mut tensors = ByName::new();
    for (tensor, info) in metadata.tensors() {
        check_bounds(&tensor, info.shape.len()).map_err(corrupt)?;
        let (start, end) = info.data_offsets;
        let data = bytes
            .slice(data_start.saturating_add(start)..data_start.saturating_add(end))
            .ok_or_else(|| corrupt(format!("tensor `{tensor}` reaches past the end")))?;
        let stored = StoredTensor {
            file: Arc::clone(&name),
            dtype: dtype(info.dtype),
            shape: info.shape.clone(),
            layout: Layout::Contiguous(data),
        };
        tensors.insert(tensor, stored);
    }
    Ok(tensors)
}

fn explain(error: &SafeTensorError, bytes: &[u8]) -> String {
    let bytes = bytes.len();
    if matches!(error, SafeTensorError::MetadataIncompleteBuffer) {
        return format!("is {bytes} bytes long, which is not what its header says: fetch it again");
    }
    format!("is no intact safetensors file ({bytes} bytes): {error}: fetch it again")
}

fn dtype(dtype: FileDtype) -> StoredDtype {
    #[expect(clippy::wildcard_enum_match_arm, reason = "formats still to come are refused alike")]
    match dtype {
        FileDtype::F32 => StoredDtype::Known(Dtype::F32),
        FileDtype::F16 => StoredDtype::Known(Dtype::F16),
        FileDtype::BF16 => StoredDtype::Known(Dtype::Bf16),
        FileDtype::F64 => StoredDtype::Known(Dtype::F64),
        other => StoredDtype::Other(format!("{other:?}")),
    }
}
