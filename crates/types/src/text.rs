//! Text that others chose, where people see it.

use std::borrow::Cow;

/// Whether a character shows as itself: it moves no cursor, gives a terminal no order,
/// and does not turn the direction of what stands around it.
pub fn is_plain(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    !character.is_control() && !turns && !ends_line
}

/// The text with a mark in the place of every character that is not plain. Line ends
/// and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let stays = |character| matches!(character, '\n' | '\t') || is_plain(character);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let shown = |character| if stays(character) { character } else { char::REPLACEMENT_CHARACTER };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_terminal_are_marked_and_words_stay() {
        let orders = "a\x1b[2J\x07b\r\u{9b}31m\x7f\u{202e}c";
        assert_eq!(plain(orders), "a\u{fffd}[2J\u{fffd}b\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}c");

        let words = "Größe, 雪, 🎬:\t1\n";
        assert!(matches!(plain(words), Cow::Borrowed(same) if same == words));
    }
}
