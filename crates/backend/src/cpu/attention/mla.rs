//! MLA's up-projections, packed per head for the way attention runs.

use crate::{
    cpu::{
        panel::Panels,
        tensor::Stored,
        tile::{Bf16, Element},
    },
    seam::{Class, Dtype, Error, MlaPath, MlaShape, Weight},
};

/// MLA's up-projections, per head and in the orientation its path needs.
#[derive(Debug)]
pub struct Mla {
    pub(super) shape: MlaShape,
    pub(super) path: MlaPath,
    up: Up,
}

#[derive(Debug)]
enum Up {
    F32(Projections<f32>),
    Bf16(Projections<Bf16>),
}

/// One matrix per head each.
#[derive(Debug)]
pub(crate) struct Projections<E> {
    /// Rebuild: `kv_rank -> nope`. Absorb: `nope -> kv_rank`.
    pub(super) key: Vec<Panels<E>>,
    /// `kv_rank -> value`.
    pub(super) value: Vec<Panels<E>>,
}

impl Mla {
    pub(crate) fn load(
        class: Class,
        shape: MlaShape,
        path: MlaPath,
        k_up: Weight<'_>,
        v_up: Weight<'_>,
    ) -> Result<Self, Error> {
        let MlaShape { heads, kv_rank, nope, rope, value } = shape;
        assert_eq!((k_up.n, k_up.k), (heads * nope, kv_rank), "k_up of MLA");
        assert_eq!((v_up.n, v_up.k), (heads * value, kv_rank), "v_up of MLA");
        let up = match class.activation() {
            Dtype::F32 => Up::F32(Projections::pack(shape, path, k_up, v_up)?),
            Dtype::Bf16 => {
                if let Some(width) = [kv_rank, nope, rope, value].into_iter().find(|w| w % 2 == 1) {
                    return Err(Error::OddWidth { width });
                }
                Up::Bf16(Projections::pack(shape, path, k_up, v_up)?)
            }
        };
        Ok(Self { shape, path, up })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.up {
            Up::F32(up) => up.bytes(),
            Up::Bf16(up) => up.bytes(),
        }
    }
}

impl<E: Element> Projections<E> {
    fn bytes(&self) -> u64 {
        self.key.iter().chain(&self.value).map(Panels::bytes).sum()
    }

    fn pack(
        shape: MlaShape,
        path: MlaPath,
        k_up: Weight<'_>,
        v_up: Weight<'_>,
    ) -> Result<Self, Error> {
        let MlaShape { heads, kv_rank, nope, value, .. } = shape;
        let key = (0..heads).map(|head| {
            let at =
                |row: usize, column: usize| k_up.values[(head * nope + row) * kv_rank + column];
            match path {
                MlaPath::Rebuild => Panels::pack(nope, kv_rank, at),
                MlaPath::Absorb => Panels::pack(kv_rank, nope, |n, k| at(k, n)),
            }
        });
        let value = |head: usize| {
            Panels::pack(value, kv_rank, |n, k| v_up.values[(head * value + n) * kv_rank + k])
        };
        Ok(Self {
            key: key.collect::<Result<_, _>>()?,
            value: (0..heads).map(value).collect::<Result<_, _>>()?,
        })
    }
}

/// Factor types that attention runs in.
pub(crate) trait Weighted: Stored {
    /// The projections of this type.
    fn projections(mla: &Mla) -> &Projections<Self>;
}

impl Weighted for f32 {
    fn projections(mla: &Mla) -> &Projections<Self> {
        match &mla.up {
            Up::F32(up) => up,
            Up::Bf16(_) => panic!("MLA weights are in the class' type"),
        }
    }
}

impl Weighted for Bf16 {
    fn projections(mla: &Mla) -> &Projections<Self> {
        match &mla.up {
            Up::Bf16(up) => up,
            Up::F32(_) => panic!("MLA weights are in the class' type"),
        }
    }
}
