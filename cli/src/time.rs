//! Lengths of time as a user writes and reads them.

use std::time::Duration;

/// Reads `60`, `2.5`, `20s`, `1m30s` or `2m`, in seconds. What is no number of
/// seconds in another way (negative, not finite) is for the caller to refuse,
/// who knows what it is for.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let refused = || "give seconds, such as 20, 2.5s or 1m30s".to_owned();
    let number = |digits: &str| digits.trim().parse::<f64>().map_err(|_| refused());
    let text = text.trim();
    let (minutes, rest) = match text.split_once('m') {
        Some((minutes, rest)) => (number(minutes)?, rest),
        None => (0.0, text),
    };
    let rest = rest.strip_suffix('s').unwrap_or(rest);
    let seconds = if rest.is_empty() && text.contains('m') { 0.0 } else { number(rest)? };
    Ok(60.0 * minutes + seconds)
}

/// A remaining time: `51 s`, `4 min 10 s`, `2 h 5 min`.
pub(crate) fn rough(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9).round()).as_secs();
    match whole {
        0..90 => format!("{whole} s"),
        90..5400 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// Seconds to a tenth of a millisecond, for records.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_people_write_them() {
        let read = ["60", "2.5", " 20s", "1m30s", "2m", "-1", "1e3"].map(parse_seconds);

        let expected = [60.0, 2.5, 20.0, 90.0, 120.0, -1.0, 1000.0];
        assert_eq!(read, expected.map(Ok));
        assert!(parse_seconds("NaN").unwrap().is_nan());
        for wrong in ["", "s", "m", "soon", "1h", "1m30m", "20 s s"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn remaining_time_is_rough() {
        let shown = [0.2, 51.4, 89.6, 250.0, 7500.0, f64::INFINITY].map(rough);

        assert_eq!(
            shown,
            ["0 s", "51 s", "1 min 30 s", "4 min 10 s", "2 h 5 min", "277777 h 46 min"]
        );
    }
}
