//! UTF-8 that was read as Latin-1 or Windows-1252: `cafÃ©` for `café`.
//!
//! A line is repaired if it could have come about that way as a whole, and if
//! that is the likelier story:
//!
//! 1. every character has a byte in Windows-1252 (the five bytes without a
//!    character stand for themselves, as do all C1 controls of Latin-1);
//! 2. these bytes are UTF-8, with characters outside ASCII;
//! 3. at least one of those characters is *telling*: read as Windows-1252 it
//!    looks like nothing that is written on purpose, by itself, next to another
//!    one, or as a capital inside a word. `CAFÉ’S` passes the first two tests,
//!    and must stay as it is.
//!
//! Text can have been misread several times, so a repaired line is tried again.
//!
//! Python's ftfy goes further, which a prompt hardly needs: it mends lines of
//! which only a part was misread, spaces that were non-breaking, characters
//! that are already lost, and eight other encodings. What is telling is judged
//! by simpler rules here; they leave `CAFÉ°` alone, where ftfy writes `CAFɰ`.

/// What Windows-1252 has in place of the C1 controls, from 0x80 on.
const C1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The line as it was meant, if it was misread.
pub(super) fn repair(line: &str) -> Option<String> {
    // Every repair makes the line shorter, so this ends.
    let mut best = repair_once(line)?;
    while let Some(better) = repair_once(&best) {
        best = better;
    }
    Some(best)
}

fn repair_once(line: &str) -> Option<String> {
    if line.is_ascii() {
        return None;
    }
    let bytes: Vec<u8> = line.chars().map(byte).collect::<Option<_>>()?;
    let repaired = String::from_utf8(bytes).ok()?;
    let has_c1 = line.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c));
    (has_c1 || is_misread(&repaired)).then_some(repaired)
}

/// A C1 control as the character that was meant.
pub(super) fn c1_as_windows_1252(c: char) -> char {
    match c {
        '\u{80}'..='\u{9f}' => C1[c as usize - 0x80],
        _ => c,
    }
}

/// The byte that is read as `c`.
fn byte(c: char) -> Option<u8> {
    match u8::try_from(u32::from(c)) {
        Ok(byte) => Some(byte),
        Err(_) => {
            let place = C1.iter().position(|&windows| windows == c)?;
            u8::try_from(0x80 + place).ok()
        }
    }
}

/// Whether a character of the repaired line is telling.
fn is_misread(meant: &str) -> bool {
    let mut before = ' ';
    meant.chars().any(|c| {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        let is_pair = !before.is_ascii() && !c.is_ascii();
        let is_inner_capital = before.is_ascii_lowercase() && matches!(bytes[0], 0xc2..=0xde);
        before = c;
        is_pair || is_inner_capital || is_telling(bytes)
    })
}

/// Whether no one writes what these bytes of one character are in Windows-1252.
fn is_telling(bytes: &[u8]) -> bool {
    match *bytes {
        [] | [_] => false,
        // Â and Ã before an ellipsis or an apostrophe may end a word.
        [0xc2 | 0xc3, next] => !matches!(next, 0x85 | 0x92),
        [0xe2 | 0xf0.., ..] => true,
        [_, ref rest @ ..] => rest.iter().any(|&byte| !stands_after_a_letter(byte)),
    }
}

/// Whether the Windows-1252 character of this byte is common after a letter:
/// closing marks, dashes, ellipsis, signs of quantity.
fn stands_after_a_letter(byte: u8) -> bool {
    matches!(
        byte,
        0x85 | 0x91..=0x97 | 0x99 | 0x9b | 0xa0 | 0xaa | 0xab | 0xad | 0xae | 0xb0 | 0xb2..=0xb4 | 0xb7 | 0xb9..=0xbb
    )
}
