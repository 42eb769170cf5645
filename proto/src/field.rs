//! Fields of fixed size and small enumerations, checked.

use types::{Epoch, Fence, JobId, ModelDigest, NodeId};

/// A field that a peer did not fill as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {field} {problem}")]
pub struct Malformed {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Malformed {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// A field that must be there.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::missing(field))
}

/// A value that lies within `limits`.
pub(crate) fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    limits: std::ops::RangeInclusive<T>,
) -> Result<T, Malformed> {
    if limits.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (limits.start(), limits.end());
    Err(Malformed::new(field, format!("is {value}, which is not in {least}..={most}")))
}

/// A time, a rate or a weight: finite.
pub(crate) fn finite(field: &'static str, value: f64) -> Result<f64, Malformed> {
    if value.is_finite() { Ok(value) } else { Err(Malformed::new(field, "is not finite")) }
}

/// Text of at most so many characters.
pub(crate) fn text(
    field: &'static str,
    text: String,
    characters_max: usize,
) -> Result<String, Malformed> {
    check_text(field, &text, characters_max)?;
    Ok(text)
}

/// Refuses text of more characters.
pub(crate) fn check_text(
    field: &'static str,
    text: &str,
    characters_max: usize,
) -> Result<(), Malformed> {
    match text.chars().nth(characters_max) {
        None => Ok(()),
        Some(_) => {
            Err(Malformed::new(field, format!("is longer than {characters_max} characters")))
        }
    }
}

pub(crate) fn array<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], Malformed> {
    let wrong = || Malformed::new(field, format!("has {} bytes, not {N}", bytes.len()));
    bytes.try_into().map_err(|_| wrong())
}

/// Reads a node's id.
///
/// # Errors
///
/// [`Malformed`] if it has not 16 bytes.
pub(crate) fn node(field: &'static str, bytes: &[u8]) -> Result<NodeId, Malformed> {
    Ok(NodeId(u128::from_be_bytes(array(field, bytes)?)))
}

pub(crate) fn fence(job: &[u8], epoch: u64) -> Result<Fence, Malformed> {
    let job = JobId(u128::from_be_bytes(array("job", job)?));
    Ok(Fence { job, epoch: Epoch(epoch) })
}

pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<ModelDigest, Malformed> {
    Ok(ModelDigest(array(field, bytes)?))
}

pub(crate) fn size(field: &'static str, value: u64) -> Result<usize, Malformed> {
    usize::try_from(value).map_err(|_| Malformed::new(field, format!("is {value}, too large")))
}

pub(crate) fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(crate) fn node_bytes(node: NodeId) -> Vec<u8> {
    node.0.to_be_bytes().to_vec()
}

pub(crate) fn job_bytes(job: JobId) -> Vec<u8> {
    job.0.to_be_bytes().to_vec()
}
