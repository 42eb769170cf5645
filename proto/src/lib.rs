//! What crosses between the nodes of a cluster: messages, the code generated for
//! them, and conversions into the types that everything else knows.
//!
//! ```text
//!  filmloom/control/v1   worker ◀──▶ coordinator: join, session, jobs      control
//!  filmloom/data/v1      node ◀──▶ node: hidden states, frames, pictures   data
//!  filmloom/blob/v1      node ──▶ node: weights by their digest            (generated)
//!  filmloom/cluster/v1   people's tools ──▶ coordinator                    (generated)
//!  filmloom/admin/v1     whoever has the authority's key ──▶ coordinator   (generated)
//! ```
//!
//! Invariant: what a peer sent is checked here, before anything is allocated for
//! it and before anyone else sees it; a refusal names the field. The fuzz targets in
//! `fuzz/` hold every one of these to it.

pub mod control;
pub mod data;
mod field;

/// The code that `tests/generated.rs` makes of the `.proto` files.
pub mod generated {
    #![expect(missing_docs, clippy::missing_errors_doc, reason = "the files are generated")]
    #![expect(unused_qualifications, reason = "as above")]
    #![expect(clippy::allow_attributes, clippy::too_many_lines, reason = "as above")]

    /// What lets machines in, and which of them leave.
    pub mod admin {
        include!("generated/filmloom.admin.v1.rs");
    }

    /// Tensors by their digest.
    pub mod blob {
        include!("generated/filmloom.blob.v1.rs");
    }

    /// What a cluster is made of.
    pub mod cluster {
        include!("generated/filmloom.cluster.v1.rs");
    }

    /// Between a worker and the coordinator.
    pub mod control {
        include!("generated/filmloom.control.v1.rs");
    }

    /// Between two nodes.
    pub mod data {
        include!("generated/filmloom.data.v1.rs");
    }

    /// The descriptors of all of it, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
}

pub use field::Malformed;

use std::ops::RangeInclusive;

/// Versions of the protocol that this software speaks.
pub const VERSIONS: RangeInclusive<u32> = 1..=1;

/// Bytes of a part of a message, at most.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// The newest version that both sides speak.
///
/// # Errors
///
/// [`NoCommonVersion`], which names both sides' versions.
pub fn common_version(theirs: RangeInclusive<u32>) -> Result<u32, NoCommonVersion> {
    let newest = *VERSIONS.end().min(theirs.end());
    let oldest = *VERSIONS.start().max(theirs.start());
    if newest < oldest { Err(NoCommonVersion { theirs }) } else { Ok(newest) }
}

/// Two sides that cannot speak with each other. Update the older one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this side speaks versions {} to {} of the protocol, the other one {} to {}: update the \
     older one", VERSIONS.start(), VERSIONS.end(), theirs.start(), theirs.end()
)]
pub struct NoCommonVersion {
    /// What the other side speaks.
    pub theirs: RangeInclusive<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_common_version_is_spoken() {
        assert_eq!(common_version(1..=7), Ok(1));
        assert_eq!(common_version(0..=1), Ok(1));
        let refused = common_version(2..=3).unwrap_err().to_string();
        assert!(refused.contains("1 to 1") && refused.contains("2 to 3"), "{refused}");
    }
}
