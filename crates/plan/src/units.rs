//! Byte counts and times as people read them, and sums that cannot overflow.
//!
//! Configurations come from files, so a product of their sizes may exceed 64
//! bits; it then saturates, which no machine's memory fits either.

use std::fmt;

/// A count of bytes, shown in units of 1000.
///
/// Below a million it is shown exactly, `524,288 B`; from there on with three
/// significant digits, `2.01 GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000_000 {
            return write!(f, "{} B", grouped(self.0));
        }
        let mut value = self.0 as f64 / 1e6;
        let mut units = ["MB", "GB", "TB", "PB"].iter();
        let mut unit = "MB";
        for next in units.by_ref().skip(1) {
            // What would be shown as 1000 is 1 of the next unit.
            if value < 999.5 {
                break;
            }
            value /= 1000.0;
            unit = next;
        }
        let decimals = [9.995, 99.95].iter().filter(|&&limit| value < limit).count();
        write!(f, "{value:.decimals$} {unit}")
    }
}

/// Seconds with three significant digits: `1.25 s`, `38.0 ms`.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = if seconds < 0.9995 { (1e3 * seconds, "ms") } else { (seconds, "s") };
    let decimals = [9.995, 99.95].iter().filter(|&&limit| value < limit).count();
    format!("{value:.decimals$} {unit}")
}

/// A number with a comma before every three digits: `1,418,996,800`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if 0 < place && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 chunk`, `1,081 chunks`.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Names of a list that may be long: `a`, `a and b`, `a, b, c, d and 60 more`.
pub fn listed(names: &[String]) -> String {
    if names.len() <= NAMES_MAX + 1 {
        return match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, before)) => format!("{} and {last}", before.join(", ")),
            None => "nobody".to_owned(),
        };
    }
    format!("{} and {} more", names[..NAMES_MAX].join(", "), names.len() - NAMES_MAX)
}

/// Names that are repeated of a long list.
const NAMES_MAX: usize = 4;

/// The product of sizes, at most `u64::MAX`.
pub(crate) fn product<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes.iter().fold(1, |product: u64, &size| product.saturating_mul(size as u64))
}

/// The sum of counts, at most `u64::MAX`.
pub(crate) fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_people_write_them() {
        let shown: Vec<_> = [0, 448, 524_288, 999_999, 1_000_000, 146_764_800, 2_012_774_400]
            .map(|bytes| Bytes(bytes).to_string())
            .into();
        let expected = ["0 B", "448 B", "524,288 B", "999,999 B", "1.00 MB", "147 MB", "2.01 GB"];
        assert_eq!(shown, expected);
        assert_eq!(Bytes(999_499_999).to_string(), "999 MB");
        assert_eq!(Bytes(999_500_000).to_string(), "1.00 GB");
        assert_eq!(Bytes(69_013_000_000).to_string(), "69.0 GB");
        assert_eq!(Bytes(u64::MAX).to_string(), "18447 PB");
    }

    #[test]
    fn times_have_three_digits() {
        let shown = [0.0, 0.000_5, 0.038, 0.999_6, 1.25, 12.34, 123.4].map(seconds);

        let expected = ["0.00 ms", "0.50 ms", "38.0 ms", "1.00 s", "1.25 s", "12.3 s", "123 s"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn one_thing_is_no_plural() {
        let shown = [0, 1, 1081].map(|number| counted(number, "chunk"));
        assert_eq!(shown, ["0 chunks", "1 chunk", "1,081 chunks"]);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names = |count: usize| (0..count).map(|name| format!("w{name}")).collect::<Vec<_>>();
        let shown = [0, 1, 2, 5, 6].map(|count| listed(&names(count)));

        let expected =
            ["nobody", "w0", "w0 and w1", "w0, w1, w2, w3 and w4", "w0, w1, w2, w3 and 2 more"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn huge_sizes_saturate() {
        assert_eq!(product([usize::MAX, 3]), u64::MAX);
        assert_eq!(product([usize::MAX, 3, 0]), 0);
        assert_eq!(sum([u64::MAX, 1]), u64::MAX);
    }
}
