//! RGB to YUV 4:2:0, BT.709, limited range.
//!
//! Luma per pixel; chroma per 2 x 2 pixels, from both rows and, horizontally, from a
//! [1 2 1] filter centred on the left column, because H.264 players place chroma there
//! unless told otherwise. Integers with 16 fraction bits, so every machine gives the
//! same bytes; within 0.51 of the real-valued formula (tested).
//!
//! Sources: ITU-R BT.709-6, items 3.2 to 3.5 (matrix and quantisation); ITU-T H.264,
//! figure E-1 (default chroma location type 0).

use crate::Picture;

/// Fraction bits of the coefficients.
const BITS: u32 = 16;
/// The chroma filter's weights add up to 8.
const FILTER_BITS: u32 = 3;

// Rows of the matrix times 2^16, scaled to 219 (luma) and 224 (chroma) steps. The
// chroma rows add up to zero, so that grey stays exactly grey.
const Y: [i32; 3] = [11_966, 40_254, 4_064];
const U: [i32; 3] = [-6_596, -22_188, 28_784];
const V: [i32; 3] = [28_784, -26_145, -2_639];

/// Planes of one picture with even width and height; reused from picture to picture.
pub(crate) struct Planes {
    width: usize,
    height: usize,
    /// Luma, `[height, width]`.
    pub(crate) y: Vec<u8>,
    /// Blue difference, `[height / 2, width / 2]`.
    pub(crate) u: Vec<u8>,
    /// Red difference, `[height / 2, width / 2]`.
    pub(crate) v: Vec<u8>,
}

impl Planes {
    /// Planes of a mid-grey picture.
    pub(crate) fn grey(width: u32, height: u32) -> Self {
        assert!(width.is_multiple_of(2) && height.is_multiple_of(2), "4:2:0 halves both sides");
        let (width, height) = (width as usize, height as usize);
        let chroma = vec![128; width * height / 4];
        Self { width, height, y: vec![126; width * height], u: chroma.clone(), v: chroma }
    }

    /// Width and height in pixels.
    pub(crate) fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Converts a picture of the planes' size.
    pub(crate) fn fill(&mut self, picture: &Picture<'_>) {
        let luma_rows = self.y.chunks_exact_mut(2 * self.width);
        let u_rows = self.u.chunks_exact_mut(self.width / 2);
        let v_rows = self.v.chunks_exact_mut(self.width / 2);
        let rgb_rows = picture.rgb().chunks_exact(6 * self.width);
        for (((rgb, y), u), v) in rgb_rows.zip(luma_rows).zip(u_rows).zip(v_rows) {
            fill_luma(rgb, y);
            fill_chroma(rgb, u, v);
        }
    }
}

/// Two rows of pixels to two rows of luma.
fn fill_luma(rgb: &[u8], luma: &mut [u8]) {
    for (pixel, y) in rgb.chunks_exact(3).zip(luma) {
        let sum = dot(Y, [pixel[0].into(), pixel[1].into(), pixel[2].into()]);
        *y = byte((sum + (16 << BITS) + (1 << (BITS - 1))) >> BITS);
    }
}

/// Two rows of pixels to one row of each chroma plane.
fn fill_chroma(rgb: &[u8], u: &mut [u8], v: &mut [u8]) {
    let (top, bottom) = rgb.split_at(rgb.len() / 2);
    let column = |at: usize| -> [i32; 3] {
        std::array::from_fn(|i| i32::from(top[at + i]) + i32::from(bottom[at + i]))
    };
    let mut left = column(0);
    for (index, (u, v)) in u.iter_mut().zip(v).enumerate() {
        let (centre, right) = (column(6 * index), column(6 * index + 3));
        let filtered = std::array::from_fn(|i| left[i] + 2 * centre[i] + right[i]);
        *u = chroma_byte(U, filtered);
        *v = chroma_byte(V, filtered);
        left = right;
    }
}

fn chroma_byte(row: [i32; 3], filtered: [i32; 3]) -> u8 {
    const SHIFT: u32 = BITS + FILTER_BITS;
    byte((dot(row, filtered) + (128 << SHIFT) + (1 << (SHIFT - 1))) >> SHIFT)
}

fn dot(row: [i32; 3], rgb: [i32; 3]) -> i32 {
    row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]
}

#[expect(clippy::cast_possible_truncation, reason = "the matrix maps 0..=255 into 16..=240")]
fn byte(value: i32) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{OPTIONS, animation, picture};

    #[test]
    fn corner_colours_have_the_values_of_the_standard() {
        // BT.709 limited range: white, black, red, green, blue as Y, Cb, Cr.
        let expected = [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ];
        for (rgb, yuv) in expected {
            let mut planes = Planes::grey(4, 2);
            planes.fill(&Picture::new(4, 2, &rgb.repeat(8)).unwrap());

            assert_eq!([planes.y[5], planes.u[1], planes.v[1]], yuv, "{rgb:?}");
        }
    }

    #[test]
    fn integers_agree_with_the_real_valued_formula() {
        let rgb = animation(6).pop().unwrap();
        let mut planes = Planes::grey(OPTIONS.width, OPTIONS.height);
        planes.fill(&picture(&rgb));

        let width = OPTIONS.width as usize;
        for (at, &y) in planes.y.iter().enumerate() {
            let [expected, ..] = real_yuv(std::array::from_fn(|i| rgb[3 * at + i].into()));
            assert!((f64::from(y) - expected).abs() < 0.51, "luma {at}: {y}, {expected}");
        }
        for at in 0..planes.u.len() {
            let (x, y) = (2 * (at % (width / 2)), 2 * (at / (width / 2)));
            let [_, u, v] = real_yuv(filtered_pixel(&rgb, width, x, y));
            assert!((f64::from(planes.u[at]) - u).abs() < 0.51, "u {at}: {}, {u}", planes.u[at]);
            assert!((f64::from(planes.v[at]) - v).abs() < 0.51, "v {at}: {}, {v}", planes.v[at]);
        }
    }

    /// The same filter written plainly.
    fn filtered_pixel(rgb: &[u8], width: usize, x: usize, y: usize) -> [f64; 3] {
        let taps = [(x.saturating_sub(1), 0.125), (x, 0.25), (x + 1, 0.125)];
        std::array::from_fn(|i| {
            (y..y + 2)
                .flat_map(|row| taps.map(|(column, weight)| (row * width + column, weight)))
                .map(|(at, weight)| f64::from(rgb[3 * at + i]) * weight)
                .sum()
        })
    }

    fn real_yuv([r, g, b]: [f64; 3]) -> [f64; 3] {
        let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let chroma = |difference: f64, range: f64| 128.0 + difference / range * 224.0 / 255.0;
        [16.0 + luma * 219.0 / 255.0, chroma(b - luma, 1.8556), chroma(r - luma, 1.5748)]
    }
}
