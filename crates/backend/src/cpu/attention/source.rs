//! Where an attention's keys, values and queries come from.
//!
//! A [`Kind`] turns cached rows into packed tiles of keys and values for one
//! head (or, absorbed, for all heads), queries into the rows that meet those
//! tiles, and attended rows into the output.

use std::ops::Range;

use types::TiledHead;

use crate::{
    cpu::{
        Cpu,
        attention::{
            TILE_KEYS,
            mla::{Projections, Weighted},
            product,
            tile::Tile,
        },
        level::Usable,
        memory::Aligned,
        rotation::{Rotation, rotate},
        tensor::Parts,
        tile::COLUMNS,
    },
    seam::{Heads, Keys, MlaPath, MlaShape, Tensor},
};

/// An attention's shape, weights and cached rows.
pub(super) struct Kind<'a, E> {
    form: Form<'a, E>,
    cache: &'a [E],
    row_width: usize,
    /// Cache row of every attended key, in window order.
    rows: Vec<usize>,
    rotation: Option<&'a Rotation>,
}

enum Form<'a, E> {
    Dense { heads: usize, head_dim: usize },
    Rebuild { shape: MlaShape, up: &'a Projections<E> },
    Absorb { shape: MlaShape, up: &'a Projections<E> },
}

impl<'a, E: Weighted> Kind<'a, E> {
    pub(super) fn new(heads: &Heads<'a, Cpu>, keys: &Keys<'a, Cpu>) -> Self {
        let (form, row_width, rotated) = match *heads {
            Heads::Dense { heads, head_dim } => {
                (Form::Dense { heads, head_dim }, 2 * heads * head_dim, head_dim)
            }
            Heads::Mla(mla) => {
                let (shape, up) = (mla.shape, E::projections(mla));
                let form = match mla.path {
                    MlaPath::Rebuild => Form::Rebuild { shape, up },
                    MlaPath::Absorb => Form::Absorb { shape, up },
                };
                (form, shape.kv_rank + shape.rope, shape.rope)
            }
        };
        if let Form::Rebuild { shape, .. } | Form::Absorb { shape, .. } = form {
            let parts = [shape.kv_rank, shape.nope, shape.rope];
            assert!(parts.iter().all(|part| part.is_multiple_of(E::GROUP)), "whole groups in keys");
        }
        let rows: Vec<usize> = keys.segments.iter().cloned().flatten().collect();
        assert_eq!(keys.cache.columns(), row_width, "width of cached rows");
        assert!(rows.iter().all(|&row| row < keys.cache.rows()), "attended rows exist");
        if let Some(rotation) = keys.rotation {
            assert_eq!(rotation.pairs() * 2, rotated, "rotated channels of a key");
            assert!(rows.len() <= rotation.tokens(), "every key has a position");
        }
        Self { form, cache: E::of(keys.cache), row_width, rows, rotation: keys.rotation }
    }

    pub(super) fn heads(&self) -> usize {
        match self.form {
            Form::Dense { heads, .. } => heads,
            Form::Rebuild { shape, .. } | Form::Absorb { shape, .. } => shape.heads,
        }
    }

    /// Channels of a head's query as the caller gives it.
    pub(super) fn query_width(&self) -> usize {
        match self.form {
            Form::Dense { head_dim, .. } => head_dim,
            Form::Rebuild { shape, .. } | Form::Absorb { shape, .. } => shape.nope + shape.rope,
        }
    }

    /// Channels of a head's output.
    pub(super) fn value_width(&self) -> usize {
        match self.form {
            Form::Dense { head_dim, .. } => head_dim,
            Form::Rebuild { shape, .. } | Form::Absorb { shape, .. } => shape.value,
        }
    }

    /// Channels in which scores are computed: whole groups, the last of which
    /// may be filled up with a zero.
    pub(super) fn key_width(&self) -> usize {
        let width = match self.form {
            Form::Absorb { shape, .. } => shape.kv_rank + shape.rope,
            Form::Dense { .. } | Form::Rebuild { .. } => self.query_width(),
        };
        width.next_multiple_of(E::GROUP)
    }

    /// Channels in which weights are applied.
    pub(super) fn attended_width(&self) -> usize {
        match self.form {
            Form::Absorb { shape, .. } => shape.kv_rank,
            Form::Dense { .. } | Form::Rebuild { .. } => self.value_width(),
        }
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.len().div_ceil(TILE_KEYS)
    }

    /// Whether all heads attend to the same tiles.
    pub(super) fn has_shared_tiles(&self) -> bool {
        matches!(self.form, Form::Absorb { .. })
    }

    /// What is in one head's tiles.
    pub(super) fn tiled_head(&self) -> TiledHead {
        const { assert!(E::GROUP * size_of::<E>() == Cpu::TILES.group_bytes) };
        TiledHead {
            keys: self.rows.len() as u64,
            key_width: self.key_width() as u64,
            value_width: self.attended_width() as u64,
            element_bytes: size_of::<E>(),
        }
    }

    /// Makes tile `index` of `head`.
    pub(super) fn fill(&self, level: Usable, head: usize, index: usize, tile: &mut Tile<E>) {
        let keys = index * TILE_KEYS..self.rows.len().min((index + 1) * TILE_KEYS);
        tile.reset(keys.len(), self.key_width(), self.attended_width());
        match self.form {
            Form::Dense { heads, head_dim } => {
                let (mut line, mut room) = (vec![E::default(); head_dim], Vec::new());
                for (place, key) in keys.enumerate() {
                    let row = self.row(key);
                    let own = &row[head * head_dim..][..head_dim];
                    self.rotated(level, key, own, &mut room, &mut line);
                    tile.put_key(place, 0, &line);
                    tile.put_value(place, 0, &row[(heads + head) * head_dim..][..head_dim]);
                }
            }
            Form::Absorb { shape, .. } => {
                let (mut line, mut room) = (vec![E::default(); shape.rope], Vec::new());
                for (place, key) in keys.enumerate() {
                    let (content, rope) = self.row(key).split_at(shape.kv_rank);
                    self.rotated(level, key, rope, &mut room, &mut line);
                    tile.put_key(place, 0, content);
                    tile.put_key(place, shape.kv_rank, &line);
                    tile.put_value(place, 0, content);
                }
            }
            Form::Rebuild { shape, up } => self.rebuild(level, shape, up, head, keys, tile),
        }
    }

    fn rebuild(
        &self,
        level: Usable,
        shape: MlaShape,
        up: &Projections<E>,
        head: usize,
        keys: Range<usize>,
        tile: &mut Tile<E>,
    ) {
        let mut contents = Vec::with_capacity(keys.len() * shape.kv_rank);
        let (mut line, mut room) = (vec![E::default(); shape.rope], Vec::new());
        let count = keys.len();
        for (place, key) in keys.enumerate() {
            let (content, rope) = self.row(key).split_at(shape.kv_rank);
            contents.extend_from_slice(content);
            self.rotated(level, key, rope, &mut room, &mut line);
            tile.put_key(place, shape.nope, &line);
        }
        let mut rounded = [E::default(); COLUMNS];
        product(level, &contents, shape.kv_rank, &up.key[head], count, |row, columns, sums| {
            E::round(level, sums, &mut rounded[..sums.len()]);
            tile.put_key(row, columns.start, &rounded[..sums.len()]);
        });
        product(level, &contents, shape.kv_rank, &up.value[head], count, |row, columns, sums| {
            E::round(level, sums, &mut rounded[..sums.len()]);
            tile.put_value(row, columns.start, &rounded[..sums.len()]);
        });
    }

    /// A head's queries as rows that meet the tiles' keys.
    pub(super) fn queries(
        &self,
        level: Usable,
        queries: &[E],
        head: usize,
        rows: Range<usize>,
    ) -> Aligned<E> {
        let (width, stride) = (self.query_width(), self.heads() * self.query_width());
        let own = |row: usize| &queries[row * stride + head * width..][..width];
        let key_width = self.key_width();
        let mut finished = Aligned::scratch(rows.len() * key_width);
        let lines = rows.clone().zip(finished.chunks_exact_mut(key_width));
        let Form::Absorb { shape, up } = &self.form else {
            lines.for_each(|(row, line)| line[..width].copy_from_slice(own(row)));
            return finished;
        };
        for (row, line) in lines {
            line[shape.kv_rank..].copy_from_slice(&own(row)[shape.nope..]);
        }
        let first = &queries[rows.start * stride + head * width..];
        product(level, first, stride, &up.key[head], rows.len(), |row, columns, sums| {
            let line = &mut finished[row * key_width..][columns];
            E::round(level, sums, line);
        });
        finished
    }

    /// Writes a head's attended rows to the output.
    pub(super) fn store(
        &self,
        level: Usable,
        head: usize,
        rows: Range<usize>,
        attended: &[E],
        target: &Parts<'_, E>,
    ) {
        let (width, stride) = (self.value_width(), self.heads() * self.value_width());
        let place = |row: usize, columns: Range<usize>| {
            let first = row * stride + head * width;
            first + columns.start..first + columns.end
        };
        if let Form::Absorb { shape, up } = &self.form {
            product(
                level,
                attended,
                shape.kv_rank,
                &up.value[head],
                rows.len(),
                |row, columns, sums| {
                    // SAFETY: this head's columns of these rows belong to this task.
                    let line = unsafe { target.part(place(rows.start + row, columns)) };
                    E::round(level, sums, line);
                },
            );
        } else {
            for (row, attended) in rows.zip(attended.chunks_exact(width)) {
                // SAFETY: as above.
                unsafe { target.part(place(row, 0..width)) }.copy_from_slice(attended);
            }
        }
    }

    fn row(&self, key: usize) -> &'a [E] {
        &self.cache[self.rows[key] * self.row_width..][..self.row_width]
    }

    /// A cached key turned to its place in the window; `room` is kept from one
    /// key to the next.
    fn rotated(&self, level: Usable, key: usize, from: &[E], room: &mut Vec<f32>, to: &mut [E]) {
        let Some(rotation) = self.rotation else {
            to.copy_from_slice(from);
            return;
        };
        let pairs = from.len() / 2;
        room.resize(4 * pairs, 0.0);
        let (wide, angles) = room.split_at_mut(2 * pairs);
        let (cosines, sines) = angles.split_at_mut(pairs);
        rotation.token(key, cosines, sines);
        for (wide, from) in wide.iter_mut().zip(from) {
            *wide = from.to_f32();
        }
        rotate(level, wide, cosines, sines);
        E::round(level, wide, to);
    }
}
