//! How much of an attention's keys and values is made at once.
//!
//! An engine may make the keys and values of a head before it attends, packed
//! in tiles, and of several heads together so that no thread waits:
//!
//! ```text
//! heads   0 1 2 3 | 4 5 6 7 | 8 9        a wave: its heads' tiles are held together
//!         tile, tile, ... tile           a head: all attended keys, the last tile filled up
//! ```
//!
//! [`Tiles`] is the rule. The engine that makes the tiles and the plan that
//! counts them both ask it, so they cannot disagree.

/// Sizes of tiles and waves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Keys of a tile.
    pub keys: usize,
    /// A key's channels fill whole groups of so many bytes.
    pub group_bytes: usize,
    /// A value's channels are filled up to a multiple of this.
    pub value_multiple: usize,
    /// Bytes that a wave of several heads holds at most. One head may have more.
    pub wave_bytes_max: usize,
}

/// What a head attends to: its own tiles' contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TiledHead {
    /// Attended keys.
    pub keys: u64,
    /// Channels of a key.
    pub key_width: u64,
    /// Channels of a value.
    pub value_width: u64,
    /// Bytes of a number.
    pub element_bytes: usize,
}

impl Tiles {
    /// Bytes of a head's tiles.
    ///
    /// Saturates, so that an absurd head fits nowhere instead of wrapping.
    pub fn head_bytes(&self, head: TiledHead) -> u64 {
        let TiledHead { keys, key_width, value_width, element_bytes } = head;
        let bytes = |channels: u64| channels.saturating_mul(element_bytes as u64);
        let key = filled(bytes(key_width), self.group_bytes);
        let value = bytes(filled(value_width, self.value_multiple));
        filled(keys, self.keys).saturating_mul(key.saturating_add(value))
    }

    /// The most of `heads` heads that make a wave: one at least.
    pub fn wave_heads_max(&self, heads: usize, head_bytes: u64) -> usize {
        let fitting = (self.wave_bytes_max as u64) / head_bytes.max(1);
        usize::try_from(fitting).unwrap_or(usize::MAX).min(heads).max(1)
    }

    /// The most bytes that a wave of such heads holds.
    pub fn wave_bytes(&self, heads: usize, head: TiledHead) -> u64 {
        let one = self.head_bytes(head);
        one.saturating_mul(self.wave_heads_max(heads, one) as u64)
    }
}

/// The least multiple that is not below `number`.
fn filled(number: u64, multiple: usize) -> u64 {
    let multiple = multiple.max(1) as u64;
    number.div_ceil(multiple).saturating_mul(multiple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_whole_in_keys_groups_and_columns() {
        let head = TiledHead { keys: 129, key_width: 5, value_width: 17, element_bytes: 2 };

        // Two tiles of 128; 6 of 5 channels make whole groups, 32 of 17 whole columns.
        assert_eq!(TILES.head_bytes(head), 2 * 128 * 2 * (6 + 32));
        let wide = TiledHead { element_bytes: 4, ..head };
        assert_eq!(TILES.head_bytes(wide), 2 * 128 * 4 * (5 + 32));
    }

    #[test]
    fn wave_holds_whole_heads_up_to_its_bytes_but_one_at_least() {
        let heads = |head_bytes| TILES.wave_heads_max(12, head_bytes);

        assert_eq!(heads(1 << 20), 4);
        assert_eq!(heads((1 << 20) + 1), 3);
        assert_eq!(heads(1), 12);
        assert_eq!(heads(0), 12);
        assert_eq!(heads(5 << 20), 1);
        assert_eq!(TILES.wave_heads_max(0, 1), 1);
    }

    #[test]
    fn absurd_heads_saturate() {
        let (keys, key_width, value_width) = (u64::MAX, u64::MAX, u64::MAX);
        let head = TiledHead { keys, key_width, value_width, element_bytes: usize::MAX };

        assert_eq!(TILES.wave_bytes(usize::MAX, head), u64::MAX);
    }

    const TILES: Tiles =
        Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 4 << 20 };
}
