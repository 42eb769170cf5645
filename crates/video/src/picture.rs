//! One RGB picture, borrowed from whoever decoded it.

use crate::Error;

/// A picture: `[height, width, 3]` bytes, row-major, red first, sRGB.
///
/// The buffer always has exactly the bytes that the size calls for.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    width: u32,
    height: u32,
    rgb: &'a [u8],
}

impl<'a> Picture<'a> {
    /// Borrows a picture of `width` x `height` pixels.
    ///
    /// # Errors
    ///
    /// [`Error::PictureBytes`] unless `rgb` has `width * height * 3` bytes.
    pub fn new(width: u32, height: u32, rgb: &'a [u8]) -> Result<Self, Error> {
        let expected = u64::from(width).saturating_mul(u64::from(height)).saturating_mul(3);
        let found = rgb.len() as u64;
        if expected == found {
            Ok(Self { width, height, rgb })
        } else {
            Err(Error::PictureBytes { width, height, expected, found })
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Pixels, `[height, width, 3]`.
    pub fn rgb(&self) -> &'a [u8] {
        self.rgb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_of_another_length_is_refused_with_both_lengths() {
        let error = Picture::new(4, 2, &[0; 23]).unwrap_err();

        assert_eq!(error.to_string(), "a 4x2 RGB picture has 24 bytes, found 23");
        assert!(Picture::new(4, 2, &[0; 24]).is_ok());
        assert!(Picture::new(u32::MAX, u32::MAX, &[0; 3]).is_err());
    }
}
