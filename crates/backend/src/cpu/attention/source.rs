//! Where an attention's keys, values and queries come from.
//!
//! A [`Kind`] turns cached rows into packed tiles of keys and values for one
//! head (or, absorbed, for all heads), queries into the rows that meet those
//! tiles, and attended rows into the output.

use std::ops::Range;

use crate::{
    cpu::{
        Cpu,
        attention::{TILE_KEYS, product},
        level::Usable,
        memory::Aligned,
        panel::{Panels, panel_columns},
        rotation::{Rotation, rotate},
        tensor::{Parts, Stored},
        tile::{Bf16, COLUMNS, Element},
    },
    seam::{Class, Dtype, Error, Heads, Keys, MlaPath, MlaShape, Tensor, Weight},
};

/// MLA's up-projections, per head and in the orientation its path needs.
#[derive(Debug)]
pub struct Mla {
    shape: MlaShape,
    path: MlaPath,
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
    key: Vec<Panels<E>>,
    /// `kv_rank -> value`.
    value: Vec<Panels<E>>,
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
    pub fn bytes(&self) -> u64 {
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

/// Keys and values of up to [`TILE_KEYS`] rows, packed for the register tile.
#[derive(Debug)]
pub(super) struct Tile<E> {
    /// Rows in use.
    pub(super) keys: usize,
    /// Panels of 32 keys.
    key: Aligned<E>,
    key_width: usize,
    /// Panels of 32 (or 16) value columns.
    value: Aligned<E>,
    value_width: usize,
}

impl<E: Element> Tile<E> {
    pub(super) fn empty() -> Self {
        let (key, value) = (Aligned::scratch(0), Aligned::scratch(0));
        Self { keys: 0, key, key_width: 0, value, value_width: 0 }
    }

    pub(super) fn score_panels(&self) -> usize {
        self.keys.div_ceil(COLUMNS)
    }

    pub(super) fn key_panel(&self, panel: usize) -> &[E] {
        &self.key[panel * COLUMNS * self.key_width..][..COLUMNS * self.key_width]
    }

    pub(super) fn value_panel(&self, panel: usize) -> (&[E], usize) {
        let columns = panel_columns(self.value_width, panel);
        (&self.value[panel * COLUMNS * TILE_KEYS..][..columns * TILE_KEYS], columns)
    }

    fn reset(&mut self, keys: usize, key_width: usize, value_width: usize) {
        self.keys = keys;
        (self.key_width, self.value_width) = (key_width, value_width);
        clear(&mut self.key, TILE_KEYS * key_width);
        clear(&mut self.value, TILE_KEYS * value_width.next_multiple_of(16));
    }

    /// Puts part of key `index`, from channel `first` on, which begins a group.
    fn put_key(&mut self, index: usize, first: usize, values: &[E]) {
        debug_assert!(first.is_multiple_of(E::GROUP), "channel {first} begins a group");
        let panel = &mut self.key[index / COLUMNS * COLUMNS * self.key_width..];
        let key = index % COLUMNS;
        for (group, values) in values.chunks(E::GROUP).enumerate() {
            let at = ((first / E::GROUP + group) * COLUMNS + key) * E::GROUP;
            panel[at..at + values.len()].copy_from_slice(values);
        }
    }

    /// Puts part of value `index`, from channel `first` (a multiple of 32) on.
    fn put_value(&mut self, index: usize, first: usize, values: &[E]) {
        for (part, values) in values.chunks(COLUMNS).enumerate() {
            let panel = first / COLUMNS + part;
            let columns = panel_columns(self.value_width, panel);
            let panel = &mut self.value[panel * COLUMNS * TILE_KEYS..];
            let line = &mut panel[index / E::GROUP * columns * E::GROUP..][..columns * E::GROUP];
            for (slot, &value) in line.chunks_exact_mut(E::GROUP).zip(values) {
                slot[index % E::GROUP] = value;
            }
        }
    }
}

/// Makes memory `len` zeros.
fn clear<E: Element>(memory: &mut Aligned<E>, len: usize) {
    if memory.len() == len {
        memory.fill(E::default());
    } else {
        *memory = Aligned::scratch(len);
    }
}

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

impl<'a, E: Stored + Weighted> Kind<'a, E> {
    pub(super) fn new(_: &Cpu, heads: &Heads<'a, Cpu>, keys: &Keys<'a, Cpu>) -> Self {
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

    /// All tiles, where every head uses the same ones.
    pub(super) fn shared_tiles(&self, cpu: &Cpu) -> Option<Vec<Tile<E>>> {
        let Form::Absorb { .. } = self.form else { return None };
        let mut tiles: Vec<Tile<E>> = (0..self.tiles()).map(|_| Tile::empty()).collect();
        let parts = Parts::new(&mut tiles);
        cpu.pool.run(self.tiles(), &|index| {
            // SAFETY: every tile is one task's.
            let tile = unsafe { parts.part(index..index + 1) };
            self.fill(cpu.level, 0, index, &mut tile[0]);
        });
        Some(tiles)
    }

    /// Makes tile `index` of `head`.
    pub(super) fn fill(&self, level: Usable, head: usize, index: usize, tile: &mut Tile<E>) {
        let keys = index * TILE_KEYS..self.rows.len().min((index + 1) * TILE_KEYS);
        tile.reset(keys.len(), self.key_width(), self.attended_width());
        match self.form {
            Form::Dense { heads, head_dim } => {
                let mut line = vec![E::default(); head_dim];
                for (place, key) in keys.enumerate() {
                    let row = self.row(key);
                    self.rotated(level, key, &row[head * head_dim..][..head_dim], &mut line);
                    tile.put_key(place, 0, &line);
                    tile.put_value(place, 0, &row[(heads + head) * head_dim..][..head_dim]);
                }
            }
            Form::Absorb { shape, .. } => {
                let mut line = vec![E::default(); shape.rope];
                for (place, key) in keys.enumerate() {
                    let (content, rope) = self.row(key).split_at(shape.kv_rank);
                    self.rotated(level, key, rope, &mut line);
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
        let mut line = vec![E::default(); shape.rope];
        let count = keys.len();
        for (place, key) in keys.enumerate() {
            let (content, rope) = self.row(key).split_at(shape.kv_rank);
            contents.extend_from_slice(content);
            self.rotated(level, key, rope, &mut line);
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

    /// A cached key turned to its place in the window.
    fn rotated(&self, level: Usable, key: usize, from: &[E], to: &mut [E]) {
        let Some(rotation) = self.rotation else {
            to.copy_from_slice(from);
            return;
        };
        let pairs = from.len() / 2;
        let mut buffer = vec![0.0; 4 * pairs];
        let (wide, angles) = buffer.split_at_mut(2 * pairs);
        let (cosines, sines) = angles.split_at_mut(pairs);
        rotation.token(key, cosines, sines);
        for (wide, from) in wide.iter_mut().zip(from) {
            *wide = from.to_f32();
        }
        rotate(level, wide, cosines, sines);
        E::round(level, wide, to);
    }
}
