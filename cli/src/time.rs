//! Lengths of time as a user writes and reads them.

use std::time::Duration;

/// Reads `60`, `2.5`, `20s`, `1m30s` or `2m`, in seconds. What is no number of
/// seconds in another way (negative, not finite) is for the caller to refuse,
/// who knows what it is for.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (minutes, seconds) = match text.split_once('m') {
        Some((minutes, "")) => (minutes, "0"),
        Some((minutes, seconds)) => (minutes, seconds),
        None => ("0", text),
    };
    let seconds = seconds.strip_suffix('s').unwrap_or(seconds);
    let number = |text: &str| {
        let unsigned = text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
        let number = text.parse::<f64>().ok().filter(|_| unsigned);
        number.ok_or_else(|| "give seconds, such as 20, 2.5s or 1m30s".to_owned())
    };
    Ok(sign * (60.0 * number(minutes)? + number(seconds)?))
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
        let read = ["60", "2.5", " 20s", "1m30s", "2m", "-1", "1e3", "-1m30s"].map(parse_seconds);

        let expected = [60.0, 2.5, 20.0, 90.0, 120.0, -1.0, 1000.0, -90.0];
        assert_eq!(read, expected.map(Ok));
        assert!(parse_seconds("NaN").unwrap().is_nan());
        for wrong in ["", "s", "m", "soon", "1h", "1m30m", "20 s s", "1m-30s", "--1s"] {
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
