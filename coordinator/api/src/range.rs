//! Which bytes of a file a `Range` header asks for.
//!
//! One range of bytes, as players and resumed downloads ask for. What is not
//! understood (several ranges, another unit) is answered with the whole file, as
//! RFC 9110, section 14.2, allows; a range that begins behind the end is not.

use std::ops::Range;

/// What part of a file is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes; never none.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Beyond,
}

/// Reads a header's value for a file of `bytes`.
pub(crate) fn wanted(header: &str, bytes: u64) -> Wanted {
    let Some((first, last)) = spec(header) else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => Wanted::Whole,
        (Some(first), _) if bytes <= first => Wanted::Beyond,
        (Some(first), Some(last)) => Wanted::Part(first..bytes.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => Wanted::Part(first..bytes),
        (None, Some(count)) if first.is_empty() => match count.min(bytes) {
            0 => Wanted::Beyond,
            count => Wanted::Part(bytes - count..bytes),
        },
        _ => Wanted::Whole,
    }
}

/// The two sides of `bytes=FIRST-LAST`.
fn spec(header: &str) -> Option<(&str, &str)> {
    let (unit, spec) = header.split_once('=')?;
    let (first, last) = spec.split_once('-')?;
    unit.trim().eq_ignore_ascii_case("bytes").then(|| (first.trim(), last.trim()))
}

/// A number of digits only. More than fit count as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        for (header, want) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-5", Wanted::Part(2..6)),
            ("Bytes = 2-5", Wanted::Part(2..6)),
            ("bytes=9-99", Wanted::Part(9..10)),
            ("bytes=3-", Wanted::Part(3..10)),
            ("bytes=0-", Wanted::Part(0..10)),
            ("bytes=-4", Wanted::Part(6..10)),
            ("bytes=-40", Wanted::Part(0..10)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=10-20", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=0x1-2", Wanted::Whole),
            ("frames=0-1", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 10), want, "{header}");
        }
    }

    #[test]
    fn an_empty_file_has_no_part() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(wanted(header, 0), Wanted::Beyond, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_beyond(
            header in "bytes=[0-9]{0,3}-[0-9]{0,3}",
            bytes in 0_u64..999,
        ) {
            if let Wanted::Part(part) = wanted(&header, bytes) {
                prop_assert!(part.start < part.end && part.end <= bytes);
            }
        }
    }
}
