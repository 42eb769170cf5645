//! What a model consists of, as another node tells it: one entry after the other.
//!
//! Every entry is checked as it comes, before the next one is taken. That they agree
//! with each other, and make the digest that was asked for, is found when the whole
//! list is there ([`Contents::check`], [`checkpoint::Checkpoint::open`]).
//!
//! Invariant: a list holds at most [`ENTRIES_MAX`] entries, each with a name and a
//! shape of bounded length.

use checkpoint::{Contents, Digest, Dtype, FileEntry, Part, TensorEntry};
use proto::{
    Malformed, control,
    generated::blob::{self as wire, manifest_entry::Kind, tensor::Of},
};
use types::ModelDigest;

/// Entries of a list, at most: Wan's 14B model with its encoder has 2,000.
pub const ENTRIES_MAX: usize = 1 << 17;

/// Bytes of a message with an entry, at most: four times the longest name.
pub const ENTRY_BYTES_MAX: usize = 4 << 10;

/// A list on its way here.
#[derive(Debug)]
pub struct Listing(Contents);

impl Listing {
    /// Nothing has come of this model's list.
    pub fn new(digest: ModelDigest) -> Self {
        Self(Contents { digest, tensors: Vec::new(), files: Vec::new() })
    }

    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is none that an honest node sends, or one too many.
    pub fn take(&mut self, entry: wire::ManifestEntry) -> Result<(), Malformed> {
        let Contents { tensors, files, .. } = &mut self.0;
        if ENTRIES_MAX <= tensors.len() + files.len() {
            return Err(malformed("list", format!("has more than {ENTRIES_MAX} entries")));
        }
        match entry.kind {
            Some(Kind::Tensor(entry)) => tensors.push(tensor(entry)?),
            Some(Kind::File(entry)) => files.push(file(entry)?),
            None => return Err(malformed("list", "has an entry of an unknown kind".to_owned())),
        }
        Ok(())
    }

    /// The whole list. It is not checked as a whole.
    pub fn finish(self) -> Contents {
        self.0
    }
}

fn tensor(entry: wire::Tensor) -> Result<TensorEntry, Malformed> {
    let part = match entry.of() {
        Of::TextEncoder => Part::TextEncoder,
        Of::Transformer => Part::Transformer,
        Of::Vae => Part::Vae,
        Of::Unspecified => {
            let problem = format!("is of {}, which is no part of a model", entry.of);
            return Err(malformed("tensor", problem));
        }
    };
    let dtype = Dtype::named(&entry.dtype);
    let dtype = dtype.ok_or_else(|| malformed("dtype", format!("is {:?}", entry.dtype)))?;
    let size = |size: u64| {
        usize::try_from(size).map_err(|_| malformed("shape", format!("has {size}, too large")))
    };
    let entry = TensorEntry {
        part,
        name: entry.name,
        dtype,
        shape: entry.shape.into_iter().map(size).collect::<Result<_, _>>()?,
        bytes: entry.bytes,
        digest: Digest(control::digest(&entry.digest)?),
    };
    entry.check().map_err(|problem| malformed("list", problem))?;
    Ok(entry)
}

fn file(entry: wire::File) -> Result<FileEntry, Malformed> {
    let wire::File { path, digest, bytes } = entry;
    let entry = FileEntry { path, bytes, digest: Digest(control::digest(&digest)?) };
    entry.check().map_err(|problem| malformed("list", problem))?;
    Ok(entry)
}

fn malformed(field: &'static str, problem: String) -> Malformed {
    Malformed { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_no_honest_peer_sends_are_refused_as_they_come() {
        let good = wire::Tensor {
            of: Of::Vae.into(),
            name: "a".to_owned(),
            dtype: "BF16".to_owned(),
            shape: vec![2, 3],
            digest: vec![1; 32],
            bytes: 12,
        };
        let taken = |kind: Kind| {
            let mut listing = Listing::new(ModelDigest([0; 32]));
            listing.take(wire::ManifestEntry { kind: Some(kind) }).map(|()| listing.finish())
        };
        let read = taken(Kind::Tensor(good.clone())).unwrap().tensors.remove(0);
        assert_eq!((read.part, read.dtype, read.shape), (Part::Vae, Dtype::Bf16, vec![2, 3]));
        assert_eq!((read.bytes, read.digest), (12, Digest([1; 32])));

        let file = |path: String, bytes| wire::File { path, digest: vec![1; 32], bytes };
        let wrong = [
            (Kind::Tensor(wire::Tensor { of: 99, ..good.clone() }), "of 99"),
            (Kind::Tensor(wire::Tensor { dtype: "I4".to_owned(), ..good.clone() }), "I4"),
            (Kind::Tensor(wire::Tensor { name: "a".repeat(1025), ..good.clone() }), "1025 bytes"),
            (Kind::Tensor(wire::Tensor { shape: vec![1; 100], ..good.clone() }), "100 axes"),
            (Kind::Tensor(wire::Tensor { digest: vec![1; 31], ..good }), "31 bytes"),
            (Kind::File(file("a".repeat(1025), 1)), "1025 bytes"),
            (Kind::File(file("a".to_owned(), 1 << 40)), "absurd"),
        ];
        for (kind, problem) in wrong {
            let error = taken(kind).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
