//! The 256 colours that stand for a picture's own, for GIF.
//!
//! All pixels start in one cell. The cell with the largest squared error is cut in two,
//! at the mean of its widest channel, until there are 256 cells or no error is left; each
//! cell's mean is its colour. A picture with at most 256 colours therefore keeps them
//! exactly. No dithering: it would flicker from picture to picture, and costs bytes.
//!
//! Everything is integer arithmetic on sums, so every machine cuts alike.
//!
//! Source: the cut at the mean of the axis of largest variance is the scheme of X. Wu,
//! "Color quantization by dynamic programming and principal analysis", ACM TOG 11(4),
//! 1992, section 2, without its principal axes.

use std::{collections::BinaryHeap, ops::Range};

/// Colours a GIF palette holds.
const COLOURS_MAX: usize = 256;

/// A picture in few colours.
pub(crate) struct Quantised {
    /// `[colours, 3]` bytes, at most 256 colours.
    pub(crate) palette: Vec<u8>,
    /// Index into the palette per pixel, row-major.
    pub(crate) indices: Vec<u8>,
}

/// A pixel that remembers where it came from.
#[derive(Clone, Copy)]
struct Pixel {
    rgb: [u8; 3],
    at: u32,
}

/// A range of the pixels that shares one colour. Ordered by its error, to be cut first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    error: u64,
    start: usize,
    end: usize,
    channel: usize,
    mean: u8,
}

/// Finds at most 256 colours for `[pixels, 3]` bytes. The picture must not be empty.
pub(crate) fn quantise(rgb: &[u8]) -> Quantised {
    let pixels = rgb.chunks_exact(3).zip(0_u32..);
    let mut pixels: Vec<Pixel> =
        pixels.map(|(rgb, at)| Pixel { rgb: [rgb[0], rgb[1], rgb[2]], at }).collect();
    let mut cells = BinaryHeap::from([Cell::new(&pixels, 0..pixels.len())]);
    while cells.len() < COLOURS_MAX && cells.peek().is_some_and(|cell| 0 < cell.error) {
        let cell = cells.pop().expect("peeked at just above");
        let middle = cell.start + cell.partition(&mut pixels);
        cells.push(Cell::new(&pixels, cell.start..middle));
        cells.push(Cell::new(&pixels, middle..cell.end));
    }
    colour(&pixels, &cells.into_sorted_vec())
}

impl Cell {
    fn new(pixels: &[Pixel], range: Range<usize>) -> Self {
        let count = range.len() as u128;
        let (mut sums, mut squares) = ([0_u64; 3], [0_u64; 3]);
        for pixel in &pixels[range.clone()] {
            for channel in 0..3 {
                let value = u64::from(pixel.rgb[channel]);
                sums[channel] += value;
                squares[channel] += value * value;
            }
        }
        // Squared distance from the mean, in sixteenths; never 0 unless it is exactly so.
        let error = |channel: usize| {
            let (sum, square) = (u128::from(sums[channel]), u128::from(squares[channel]));
            u64::try_from((16 * (count * square - sum * sum)).div_ceil(count)).unwrap_or(u64::MAX)
        };
        let channel = (0..3).max_by_key(|&channel| error(channel)).expect("three channels");
        let mean = u8::try_from(sums[channel] / range.len() as u64).expect("a mean of bytes");
        let error = (0..3).map(error).fold(0, u64::saturating_add);
        Self { error, start: range.start, end: range.end, channel, mean }
    }

    /// Moves the pixels up to the mean to the front; gives their number.
    fn partition(&self, pixels: &mut [Pixel]) -> usize {
        let pixels = &mut pixels[self.start..self.end];
        let mut low = 0;
        for index in 0..pixels.len() {
            if pixels[index].rgb[self.channel] <= self.mean {
                pixels.swap(low, index);
                low += 1;
            }
        }
        low
    }
}

/// Gives every cell its mean, and every pixel its cell.
fn colour(pixels: &[Pixel], cells: &[Cell]) -> Quantised {
    let mut palette = Vec::with_capacity(3 * cells.len());
    let mut indices = vec![0; pixels.len()];
    for (cell, index) in cells.iter().zip(0..=u8::MAX) {
        let pixels = &pixels[cell.start..cell.end];
        let count = pixels.len() as u64;
        for channel in 0..3 {
            let sum: u64 = pixels.iter().map(|pixel| u64::from(pixel.rgb[channel])).sum();
            palette.push(u8::try_from((sum + count / 2) / count).expect("a mean of bytes"));
        }
        pixels.iter().for_each(|pixel| indices[pixel.at as usize] = index);
    }
    Quantised { palette, indices }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{animation, psnr_db};

    #[test]
    fn picture_of_256_colours_is_kept_exactly() {
        let rgb: Vec<u8> = (0..=255).flat_map(|i: u8| [i, i / 3, 255 - i]).collect();
        let shuffled: Vec<u8> =
            (0..1024).flat_map(|i| rgb[3 * (i * 77 % 256)..][..3].to_vec()).collect();

        let quantised = quantise(&shuffled);

        assert_eq!(quantised.palette.len(), 768);
        assert!(expand(&quantised) == shuffled);
        assert_eq!(quantise(&[7, 8, 9, 7, 8, 9]).palette, [7, 8, 9]);
    }

    #[test]
    fn picture_of_many_colours_stays_close() {
        // Every pixel a colour of its own on top of the animation.
        let rgb: Vec<u8> = animation(1)[0]
            .iter()
            .enumerate()
            .map(|(i, &value)| value.saturating_add(u8::try_from(i * 7 % 23).unwrap()))
            .collect();

        let quantised = quantise(&rgb);

        assert_eq!(quantised.palette.len(), 768);
        let db = psnr_db(&rgb, &expand(&quantised));
        assert!(34.0 < db, "{db} dB");
    }

    fn expand(quantised: &Quantised) -> Vec<u8> {
        let colour = |&index: &u8| quantised.palette[3 * usize::from(index)..][..3].to_vec();
        quantised.indices.iter().flat_map(colour).collect()
    }
}
