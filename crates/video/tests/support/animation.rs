//! A drawn animation with a known answer: a striped ball over a chequered floor.
//!
//! It has what H.264 and palettes find hard in our pictures: a saturated, sharp,
//! moving edge, fine contrast near the horizon, and a smooth sky that bands. The
//! ball crosses the picture once in [`PERIOD_PICTURES`] pictures. Pixels depend on
//! the size and the picture's index only, in integers, so that every machine draws
//! the same bytes.

/// Pictures after which the animation repeats.
const PERIOD_PICTURES: u64 = 48;

/// Draws picture `index` as `height * width` RGB8 pixels, row-major.
pub(crate) fn draw(width: u32, height: u32, index: u64) -> Vec<u8> {
    let (w, h) = (i64::from(width), i64::from(height));
    let ball = Ball::at(w, h, index);
    (0..h)
        .flat_map(|y| (0..w).map(move |x| (x, y)))
        .flat_map(|(x, y)| ball.over(x, y, scene(x, y, w, h)))
        .collect()
}

/// The ball's centre and radius in 1/16 pixels.
#[derive(Clone, Copy)]
struct Ball {
    x: i64,
    y: i64,
    radius: i64,
}

impl Ball {
    fn at(w: i64, h: i64, index: u64) -> Self {
        let period = PERIOD_PICTURES as i64;
        let phase = (index % PERIOD_PICTURES) as i64;
        let fall = (phase % 16 - 8).pow(2);
        let radius = 16 * w.min(h) / 6;
        Self { x: 16 * w * phase / period, y: 16 * h / 4 + fall * 16 * h / 170, radius }
    }

    /// Blends the ball over `below` at pixel (x, y), with a soft edge one pixel wide.
    fn over(self, x: i64, y: i64, below: [i64; 3]) -> [u8; 3] {
        let (dx, dy) = (16 * x + 8 - self.x, 16 * y + 8 - self.y);
        let distance = (dx * dx + dy * dy).isqrt();
        let cover = (self.radius - distance + 8).clamp(0, 16);
        let stripe = dy.abs() < self.radius / 5;
        let light = 256
            - 120 * (dx + dy + 2 * self.radius).clamp(0, 4 * self.radius)
                / (4 * self.radius).max(1);
        let ball = if stripe { [240, 238, 232] } else { [228, 24, 20] };
        std::array::from_fn(|i| {
            let value = (ball[i] * light / 256 * cover + below[i] * (16 - cover)) / 16;
            value.clamp(0, 255) as u8
        })
    }
}

/// Sky above the middle, a floor of squares in perspective below it.
fn scene(x: i64, y: i64, w: i64, h: i64) -> [i64; 3] {
    let horizon = h / 2;
    if y < horizon {
        return [
            90 + 110 * y / horizon.max(1),
            110 + 70 * y / horizon.max(1),
            190 + 15 * y / horizon.max(1),
        ];
    }
    let depth = y - horizon + 1;
    let row = 4 * h / depth / 4;
    let column = (x - w / 2) * 16 / depth.max(1) + 1_000_000;
    if (row + column / 8) % 2 == 0 { [232, 228, 220] } else { [48, 46, 74] }
}
