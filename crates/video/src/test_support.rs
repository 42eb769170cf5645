//! What the unit tests share: one small animation, one set of options.

#[path = "../tests/support/animation.rs"]
mod drawn;

use crate::{Options, Picture, Sink};

/// Size and rate of every unit test's video.
pub(crate) const OPTIONS: Options = Options { width: 64, height: 48, pictures_per_second: 16 };

/// Draws the first `pictures` pictures of the animation in [`OPTIONS`]'s size.
pub(crate) fn animation(pictures: u64) -> Vec<Vec<u8>> {
    (0..pictures).map(|index| drawn::draw(OPTIONS.width, OPTIONS.height, index)).collect()
}

/// Borrows drawn pixels as a picture.
pub(crate) fn picture(rgb: &[u8]) -> Picture<'_> {
    Picture::new(OPTIONS.width, OPTIONS.height, rgb).unwrap()
}

/// Pushes all pictures and ends a chunk after every `chunk_pictures`, and at the end.
pub(crate) fn push_chunks(sink: &mut dyn Sink, pictures: &[Vec<u8>], chunk_pictures: usize) {
    for chunk in pictures.chunks(chunk_pictures) {
        for rgb in chunk {
            sink.push(&picture(rgb)).unwrap();
        }
        sink.end_chunk().unwrap();
    }
}

/// Mean squared error as a signal-to-noise ratio in dB, peak 255.
pub(crate) fn psnr_db(expected: &[u8], found: &[u8]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let squares: f64 =
        expected.iter().zip(found).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * expected.len() as f64 / squares).log10()
}
