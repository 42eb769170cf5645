//! What Wan does to a prompt before it is tokenized.
//!
//! Wan's formula, in the words of its Python:
//! `re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()`.
//! Of `ftfy.fix_text` (6.3), which works line by line until nothing changes,
//! this file does:
//!
//! - character references that end in `;`, also names in capitals (`&EACUTE;`);
//!   not in a line with a `<`, nor in the lines after it, which may be meant;
//! - text read in the wrong encoding, as far as [`mojibake`] goes;
//! - C1 control characters become what Windows-1252 has in their place;
//! - ligatures of Latin letters, full-width and half-width forms, and curly
//!   quotation marks become their plain forms;
//! - terminal escapes and invisible control characters disappear;
//! - canonical composition (NFC).
//!
//! It does not do: repairs of text of mixed or other encodings (see
//! [`mojibake`]). Surrogates cannot occur, and every kind of line break is
//! white space, which ends as one space.
//!
//! References are resolved twice more at the end, as a browser does, semicolon
//! or not.
//!
//! Sources: Wan2.1, `wan/modules/tokenizers.py`; diffusers 0.42,
//! `pipelines/wan/pipeline_wan.py`; ftfy's documentation; HTML, section 13.5
//! (named character references).

use unicode_normalization::UnicodeNormalization;

use crate::text::{Error, mojibake};

/// Rounds after which a line is taken as it is. A round undoes one level of
/// escaping; what goes deeper was made to go deeper.
const ROUNDS_MAX: usize = 16;

/// The longest name of a character reference that is looked up.
const REFERENCE_MAX: usize = 24;

/// The cleaned prompt.
///
/// # Errors
///
/// [`Error::EmptyPrompt`] if nothing is left.
pub fn clean_prompt(prompt: &str) -> Result<String, Error> {
    match clean(prompt) {
        cleaned if cleaned.is_empty() => Err(Error::EmptyPrompt),
        cleaned => Ok(cleaned),
    }
}

/// The cleaned text; possibly nothing, as a negative prompt may be.
pub fn clean(text: &str) -> String {
    let mut references = true;
    let mut fixed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        references &= !line.contains('<');
        fixed.push_str(&fix_line(line, references));
    }
    let unescaped = unescape(&unescape(&fixed));
    let words: Vec<&str> = unescaped.split_whitespace().collect();
    words.join(" ")
}

/// Python's `html.unescape`: as a browser, but for control characters, which disappear.
fn unescape(text: &str) -> String {
    htmlize::unescape(text).chars().filter(|&c| !is_control(c)).collect()
}

/// Applies all fixes until none changes anything.
fn fix_line(line: &str, references: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..ROUNDS_MAX {
        let mut next = if references { resolve_references(&text) } else { text.clone() };
        if let Some(repaired) = mojibake::repair(&next) {
            next = repaired;
        }
        next = remove_terminal_escapes(&plain_forms(&next));
        next = next.chars().filter(|&c| !is_invisible(c)).nfc().collect();
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Replaces references that end in `;` and leaves all else.
fn resolve_references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let resolved = reference(rest).and_then(|found| Some((found, resolve(found)?)));
        match resolved {
            Some((found, character)) => {
                out.push_str(&character);
                rest = &rest[found.len()..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The reference at the start of `text`, with its `&` and `;`.
fn reference(text: &str) -> Option<&str> {
    let name = text.strip_prefix('&')?;
    let name = name.strip_prefix('#').unwrap_or(name);
    let len = name.find(|c: char| !c.is_ascii_alphanumeric())?;
    let is_reference = (1..=REFERENCE_MAX).contains(&len) && name[len..].starts_with(';');
    is_reference.then(|| &text[..text.len() - name.len() + len + 1])
}

/// What a whole reference stands for.
fn resolve(reference: &str) -> Option<String> {
    // A semicolon that is left shows that only the beginning was a name.
    let whole = |name: &str| {
        let found = htmlize::unescape(name);
        (found != name && !found.ends_with(';')).then(|| found.into_owned())
    };
    let is_capitals = !reference.bytes().any(|byte| byte.is_ascii_lowercase());
    match whole(reference) {
        Some(found) => Some(found),
        None if is_capitals && htmlize::unescape(reference) == reference => {
            Some(whole(&reference.to_ascii_lowercase())?.to_uppercase())
        }
        None => None,
    }
}

/// Plain forms of single characters.
fn plain_forms(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(mojibake::c1_as_windows_1252) {
        match c {
            'ʼ' | '‘'..='‛' => out.push('\''),
            '“'..='‟' => out.push('"'),
            '\u{3000}' => out.push(' '),
            // ﬅ is of a long s and t: its own compatibility form goes further.
            'ﬅ' => out.push_str("ſt"),
            'ŉ' => out.push_str("'n"),
            'Ĳ' | 'ĳ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬆ' | '\u{ff01}'..='\u{ffef}' => {
                out.extend([c].into_iter().nfkc());
            }
            _ => out.push(c),
        }
    }
    out
}

/// Removes `ESC [`, numbers, letter: colours and cursor movements.
fn remove_terminal_escapes(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match rest.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(rest) => out.push_str(rest),
            None => {
                out.push_str("\u{1b}[");
                out.push_str(piece);
            }
        }
    }
    out
}

/// Control characters of ASCII that are not white space.
fn is_control(c: char) -> bool {
    c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\u{c}' | '\r')
}

/// Characters without width that no text needs; joiners and direction marks stay.
fn is_invisible(c: char) -> bool {
    let is_mark = matches!(c, '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}');
    is_control(c) || is_mark
}
