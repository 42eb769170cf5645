//! Keys and values as the register tile takes them.

use crate::cpu::{
    Cpu,
    attention::TILE_KEYS,
    memory::Aligned,
    panel::panel_columns,
    tile::{COLUMNS, Element},
};

/// A value's columns fill panels, the last of which may be a narrow one.
const VALUE_MULTIPLE: usize = Cpu::TILES.value_multiple;

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

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(&*self.key) + size_of_val(&*self.value)) as u64
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

    /// Makes room for `keys` keys. What is put later overwrites what was there;
    /// only values that no key comes for must be zero, since their weights are
    /// not (see [`soften`](super::soften)).
    pub(super) fn reset(&mut self, keys: usize, key_width: usize, value_width: usize) {
        self.keys = keys;
        (self.key_width, self.value_width) = (key_width, value_width);
        let len = [TILE_KEYS * key_width, TILE_KEYS * value_width.next_multiple_of(VALUE_MULTIPLE)];
        for (memory, len) in [&mut self.key, &mut self.value].into_iter().zip(len) {
            if memory.len() != len {
                *memory = Aligned::scratch(len);
            }
        }
        if keys < TILE_KEYS {
            self.value.fill(E::default());
        }
    }

    /// Puts part of key `index`, from channel `first` on, which begins a group.
    #[inline]
    pub(super) fn put_key(&mut self, index: usize, first: usize, values: &[E]) {
        debug_assert!(first.is_multiple_of(E::GROUP), "channel {first} begins a group");
        let panel = &mut self.key[index / COLUMNS * COLUMNS * self.key_width..];
        let groups = panel.chunks_exact_mut(COLUMNS * E::GROUP).skip(first / E::GROUP);
        let first_of_key = index % COLUMNS * E::GROUP;
        // Groups of a constant length are copied without a call.
        let whole = values.chunks_exact(E::GROUP);
        let rest = whole.remainder();
        let mut groups = groups.map(|group| &mut group[first_of_key..first_of_key + E::GROUP]);
        for (values, group) in whole.zip(&mut groups) {
            group.copy_from_slice(values);
        }
        if let (Some(group), false) = (groups.next(), rest.is_empty()) {
            group[..rest.len()].copy_from_slice(rest);
        }
    }

    /// Puts part of value `index`, from channel `first` (a multiple of 32) on.
    #[inline]
    pub(super) fn put_value(&mut self, index: usize, first: usize, values: &[E]) {
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
