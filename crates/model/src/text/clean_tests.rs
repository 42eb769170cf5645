//! Cleaned texts against Wan's own formula in Python.
//!
//! The right-hand sides of [`EXAMPLES`] were made with ftfy 6.3.1 and Python
//! 3.11 by `" ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())`.

use crate::text::{Error, clean, clean_prompt};

#[test]
fn examples_are_cleaned_as_python_cleans_them() {
    for (text, want) in EXAMPLES {
        assert_eq!(clean(text), *want, "{text:?}");
    }
}

#[test]
fn nothing_left_is_an_empty_prompt() {
    for nothing in ["", " \t\r\n ", "&nbsp;", "\u{feff}", "\u{1b}[0m", "&amp;#32;"] {
        assert_eq!(clean_prompt(nothing), Err(Error::EmptyPrompt), "{nothing:?}");
    }
    assert_eq!(clean_prompt(" a ball ").as_deref(), Ok("a ball"));
}

#[test]
fn misread_text_is_found_through_every_printable_character() {
    // Latin-1's letters, Cyrillic, kana, punctuation and an emoji, each in a word.
    let letters = ('\u{c0}'..='\u{ff}').chain('а'..='я').chain('ぁ'..='ん').chain(['—', '🏀']);
    for letter in letters {
        let meant = format!("ball {letter}{letter}o");
        let misread: String = meant.bytes().map(read_as_windows_1252).collect();
        assert_eq!(clean(&misread), meant, "{misread}");
        assert_eq!(clean(&meant), meant);
    }
}

#[test]
fn deep_escaping_ends() {
    let nested = |depth: usize| format!("&{}lt;", "amp;".repeat(depth));
    assert_eq!(clean(&nested(12)), "<");
    assert!(clean(&nested(10_000)).ends_with("lt;"));
}

fn read_as_windows_1252(byte: u8) -> char {
    crate::text::mojibake::c1_as_windows_1252(char::from(byte))
}

/// Text, and what Python makes of it.
const EXAMPLES: &[(&str, &str)] = &[
    ("", ""),
    (" \u{9}\u{d}\u{a} ", ""),
    ("\u{a0}\u{3000}\u{2003}", ""),
    ("&nbsp;", ""),
    ("&#32;&#x20;", ""),
    ("a red ball", "a red ball"),
    (
        "  a red\u{9}ball \u{a} over\u{d}\u{a}hills\u{2028}at night ",
        "a red ball over hills at night",
    ),
    ("fish &amp; chips", "fish & chips"),
    ("fish &amp;amp; chips", "fish & chips"),
    ("fish &amp;amp;amp;amp; chips", "fish & chips"),
    ("AT&T", "AT&T"),
    ("R&amp;D &lt;3", "R&D <3"),
    ("1 < 2 &amp; 3 > 2", "1 < 2 & 3 > 2"),
    ("1 &lt; 2 &amp;amp;amp; 3", "1 < 2 & 3"),
    ("<b>bold</b> &amp;eacute; &eacute;", "<b>bold</b> \u{e9} \u{e9}"),
    ("a < b\u{a}&amp;amp;amp;amp; c", "a < b &amp;amp; c"),
    ("&amp;amp;amp;amp; c\u{a}a < b", "& c a < b"),
    ("caf&eacute;", "caf\u{e9}"),
    ("CAF&EACUTE;", "CAF\u{c9}"),
    ("&NTILDE; &nTILDE;", "\u{d1} &nTILDE;"),
    ("BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"),
    ("&copy 2024", "\u{a9} 2024"),
    ("&copycat", "\u{a9}cat"),
    ("&notit; &not; &notin;", "\u{ac}it; \u{ac} \u{2209}"),
    ("&ampere", "&ere"),
    ("&#233;&#xE9;&#XE9;", "\u{e9}\u{e9}\u{e9}"),
    ("&#128; &#150; &#x99; &#129;", "\u{20ac} \u{2013} \u{2122} \u{81}"),
    ("&#0; &#1; &#xD800; &#x110000; &#99999999999;", "\u{fffd} \u{fffd} \u{fffd} \u{fffd}"),
    ("&#x1F3C0; &#127936", "\u{1f3c0} \u{1f3c0}"),
    ("& alone; &; &#; &#x;", "& alone; &; &#; &#x;"),
    ("&nosuchthing; &NOSUCH;", "&nosuchthing; &NOSUCH;"),
    ("&hellip;&rarr;&check;&HilbertSpace;", "\u{2026}\u{2192}\u{2713}\u{210b}"),
    ("&semi; &#59; &num; &lt;&gt;", "; ; # <>"),
    ("&quot;ball&quot; &apos;ring&apos; &#39;cube&#39;", "\"ball\" 'ring' 'cube'"),
    ("&LTIMES; &ltimes;", "<IMES; \u{22c9}"),
    ("&Atilde;&copy;", "\u{e9}"),
    ("caf&Atilde;&copy;", "caf\u{e9}"),
    ("&amp;#233;", "\u{e9}"),
    ("&acE; &ThickSpace;.", "\u{223e}\u{333} ."),
    ("&fjlig; &FJLIG;", "fj FJ"),
    (
        "\u{201c}curly\u{201d} \u{2018}quotes\u{2019} it\u{2bc}s \u{201e}low\u{201f} \u{201a}high\u{201b}",
        "\"curly\" 'quotes' it's \"low\" 'high'",
    ),
    ("wait\u{2026} a\u{2013}b\u{2014}c", "wait\u{2026} a\u{2013}b\u{2014}c"),
    (
        "\u{fb01}ve \u{fb02}ags o\u{fb03}ce \u{fb05} \u{fb06} \u{132}sel \u{149} \u{1c4}\u{1c6}\u{1f1} \u{e6}\u{153}",
        "five flags office \u{17f}t st IJsel 'n D\u{17d}d\u{17e}DZ \u{e6}\u{153}",
    ),
    ("\u{ff32}\u{ff25}\u{ff24}\u{3000}\u{ff22}\u{ff41}\u{ff4c}\u{ff4c}\u{ff01}", "RED Ball!"),
    (
        "\u{ff76}\u{ff9e}\u{ff97}\u{ff7d}\u{306e}\u{ff8e}\u{ff9e}\u{ff70}\u{ff99}",
        "\u{30ac}\u{30e9}\u{30b9}\u{306e}\u{30dc}\u{30fc}\u{30eb}",
    ),
    ("\u{ffe5}100 \u{ffe1} \u{ffa1}", "\u{a5}100 \u{a3} \u{1100}"),
    ("e\u{301}te\u{301} A\u{30a} o\u{302}\u{323}", "\u{e9}t\u{e9} \u{c5} \u{1ed9}"),
    ("\u{212b} \u{2126} \u{b5} \u{b2} \u{bd}", "\u{c5} \u{3a9} \u{b5} \u{b2} \u{bd}"),
    ("\u{ac00} \u{1100}\u{1161}", "\u{ac00} \u{ac00}"),
    ("\u{1b}[36;44mblue\u{1b}[0m ball\u{1b}[", "blue ball["),
    ("a\u{0}b\u{7}c\u{b}d\u{1f}e\u{7f}f", "abcdef"),
    ("\u{feff}a ball\u{feff} \u{206a}\u{fff9}x\u{fffc}", "a ball x"),
    (
        "a\u{200d}b \u{200e}\u{202e}x \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "a\u{200d}b \u{200e}\u{202e}x \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    ),
    ("soft\u{ad}hyphen zero\u{200b}width", "soft\u{ad}hyphen zero\u{200b}width"),
    ("\u{93}quoted\u{94} \u{85} 5\u{80}", "\"quoted\" \u{2026} 5\u{20ac}"),
    ("na\u{8f}ive", "na\u{8f}ive"),
    ("caf\u{c3}\u{a9}", "caf\u{e9}"),
    (
        "Caf\u{c3}\u{a9} cr\u{c3}\u{a8}me br\u{c3}\u{bb}l\u{c3}\u{a9}e",
        "Caf\u{e9} cr\u{e8}me br\u{fb}l\u{e9}e",
    ),
    ("\u{c3}\u{bc}ber Stra\u{c3}\u{178}e", "\u{fc}ber Stra\u{df}e"),
    ("na\u{c3}\u{af}ve fa\u{c3}\u{a7}ade", "na\u{ef}ve fa\u{e7}ade"),
    ("20\u{c2}\u{b0}C and 5\u{c2}\u{a0}\u{c2}\u{a3}", "20\u{b0}C and 5 \u{a3}"),
    (
        "m\u{c3}\u{a1}s a\u{c3}\u{b1}os \u{c2}\u{bf}qu\u{c3}\u{a9}?",
        "m\u{e1}s a\u{f1}os \u{bf}qu\u{e9}?",
    ),
    (
        "it\u{e2}\u{20ac}\u{2122}s a \u{e2}\u{20ac}\u{153}ball\u{e2}\u{20ac}\u{9d}",
        "it's a \"ball\"",
    ),
    (
        "wait\u{e2}\u{20ac}\u{a6} a\u{e2}\u{20ac}\u{201c}b\u{e2}\u{20ac}\u{201d}c",
        "wait\u{2026} a\u{2013}b\u{2014}c",
    ),
    ("\u{e2}\u{153}\u{201d} done", "\u{2714} done"),
    ("\u{e2}\u{9c}\u{94} latin", "\u{2714} latin"),
    ("\u{f0}\u{178}\u{2dc}\u{20ac} smile", "\u{1f600} smile"),
    ("\u{f0}\u{178}\u{8f}\u{20ac} basketball", "\u{1f3c0} basketball"),
    (
        "\u{d0}\u{bc}\u{d1}\u{8f}\u{d1}\u{2021} \u{d0}\u{bd}\u{d0}\u{b0}\u{d0}\u{b4} \u{d1}\u{2026}\u{d0}\u{be}\u{d0}\u{bb}\u{d0}\u{bc}\u{d0}\u{b0}\u{d0}\u{bc}\u{d0}\u{b8}",
        "\u{43c}\u{44f}\u{447} \u{43d}\u{430}\u{434} \u{445}\u{43e}\u{43b}\u{43c}\u{430}\u{43c}\u{438}",
    ),
    (
        "\u{d0}\u{ba}\u{d1}\u{20ac}\u{d0}\u{b0}\u{d1}\u{81}\u{d0}\u{bd}\u{d1}\u{2039}\u{d0}\u{b9} \u{d0}\u{bc}\u{d1}\u{8f}\u{d1}\u{2021} \u{d0}\u{bd}\u{d0}\u{b0}\u{d0}\u{b4} \u{d0}\u{b7}\u{d0}\u{b5}\u{d0}\u{bb}\u{d1}\u{2018}\u{d0}\u{bd}\u{d1}\u{2039}\u{d0}\u{bc}\u{d0}\u{b8} \u{d1}\u{2026}\u{d0}\u{be}\u{d0}\u{bb}\u{d0}\u{bc}\u{d0}\u{b0}\u{d0}\u{bc}\u{d0}\u{b8}",
        "\u{43a}\u{440}\u{430}\u{441}\u{43d}\u{44b}\u{439} \u{43c}\u{44f}\u{447} \u{43d}\u{430}\u{434} \u{437}\u{435}\u{43b}\u{451}\u{43d}\u{44b}\u{43c}\u{438} \u{445}\u{43e}\u{43b}\u{43c}\u{430}\u{43c}\u{438}",
    ),
    (
        "\u{ce}\u{bc}\u{cf}\u{20ac}\u{ce}\u{ac}\u{ce}\u{bb}\u{ce}\u{b1}",
        "\u{3bc}\u{3c0}\u{3ac}\u{3bb}\u{3b1}",
    ),
    (
        "\u{e6}\u{2014}\u{a5}\u{e6}\u{153}\u{ac}\u{e8}\u{aa}\u{17e}\u{e3}\u{81}\u{ae}\u{e3}\u{192}\u{153}\u{e3}\u{192}\u{bc}\u{e3}\u{192}\u{ab}",
        "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{30dc}\u{30fc}\u{30eb}",
    ),
    (
        "\u{e7}\u{ba}\u{a2}\u{e8}\u{2030}\u{b2}\u{e7}\u{161}\u{201e}\u{e7}\u{90}\u{192}",
        "\u{7ea2}\u{8272}\u{7684}\u{7403}",
    ),
    (
        "\u{d9}\u{192}\u{d8}\u{b1}\u{d8}\u{a9} \u{d8}\u{ad}\u{d9}\u{2026}\u{d8}\u{b1}\u{d8}\u{a7}\u{d8}\u{a1}",
        "\u{643}\u{631}\u{629} \u{62d}\u{645}\u{631}\u{627}\u{621}",
    ),
    (
        "pi\u{c5}\u{201a}ka skacze na \u{c5}\u{201a}\u{c4}\u{2026}ce",
        "pi\u{142}ka skacze na \u{142}\u{105}ce",
    ),
    (
        "modr\u{c3}\u{a1} kuli\u{c4}\u{8d}ka, \u{c5}\u{a1}est hv\u{c4}\u{203a}zd",
        "modr\u{e1} kuli\u{10d}ka, \u{161}est hv\u{11b}zd",
    ),
    ("\u{c3}\u{192}\u{c2}\u{bc}ber", "\u{fc}ber"),
    ("\u{e2}\u{20ac}\u{153}ball\u{e2}\u{20ac}\u{9d}", "\"ball\""),
    ("ko\u{c5}\u{a1}\u{c5}\u{a1} ar\u{c5}\u{be}", "ko\u{161}\u{161} ar\u{17e}"),
    (
        "pa\u{c5}\u{84}stwo \u{c5}\u{201a}\u{c3}\u{b3}d\u{c5}\u{ba}",
        "pa\u{144}stwo \u{142}\u{f3}d\u{17a}",
    ),
    ("\u{e6}\u{2014}\u{a5}\u{e6}\u{153}\u{ac}\u{e8}\u{aa}\u{17e}", "\u{65e5}\u{672c}\u{8a9e}"),
    ("\u{e3}\u{83}\u{9c}\u{e3}\u{83}\u{bc}\u{e3}\u{83}\u{ab}", "\u{30dc}\u{30fc}\u{30eb}"),
    (
        "\u{e7}\u{ba}\u{a2}\u{e8}\u{2030}\u{b2}\u{e7}\u{161}\u{201e}\u{e7}\u{90}\u{192}",
        "\u{7ea2}\u{8272}\u{7684}\u{7403}",
    ),
    ("\u{c3}\u{192}\u{c2}\u{a9}t\u{c3}\u{192}\u{c2}\u{a9}", "\u{e9}t\u{e9}"),
    ("\u{c3}\u{192}\u{c6}\u{2019}\u{c3}\u{201a}\u{c2}\u{a9}", "\u{e9}"),
    ("caf\u{c3}\u{192}\u{c2}\u{a9} &amp;eacute;", "caf\u{e9} \u{e9}"),
    ("caf\u{e9} cr\u{e8}me", "caf\u{e9} cr\u{e8}me"),
    ("CAF\u{c9}\u{2019}S \u{201c}BEST\u{201d}", "CAF\u{c9}'S \"BEST\""),
    ("\u{ab} CAF\u{c9} \u{bb}", "\u{ab} CAF\u{c9} \u{bb}"),
    ("CAF\u{c9}\u{2122}", "CAF\u{c9}\u{2122}"),
    ("CAF\u{c9}\u{2026} et voil\u{e0}\u{2026}", "CAF\u{c9}\u{2026} et voil\u{e0}\u{2026}"),
    ("AMANH\u{c3}\u{2026}", "AMANH\u{c3}\u{2026}"),
    ("\u{c5}ngstr\u{f6}m 5\u{b0} \u{d7}2", "\u{c5}ngstr\u{f6}m 5\u{b0} \u{d7}2"),
    ("Gr\u{f6}\u{df}e \u{dc}\u{2013}\u{c4}", "Gr\u{f6}\u{df}e \u{dc}\u{2013}\u{c4}"),
    ("\u{43c}\u{44f}\u{447} \u{43d}\u{430}\u{434}", "\u{43c}\u{44f}\u{447} \u{43d}\u{430}\u{434}"),
    ("\u{7ea2}\u{8272}\u{7684}\u{7403}", "\u{7ea2}\u{8272}\u{7684}\u{7403}"),
    (
        "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{30dc}\u{30fc}\u{30eb}",
        "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{30dc}\u{30fc}\u{30eb}",
    ),
    ("\u{645}\u{631}\u{62d}\u{628}\u{627}", "\u{645}\u{631}\u{62d}\u{628}\u{627}"),
    ("\u{e25}\u{e39}\u{e01}\u{e1a}\u{e2d}\u{e25}", "\u{e25}\u{e39}\u{e01}\u{e1a}\u{e2d}\u{e25}"),
    ("\u{1f3c0} \u{2728}", "\u{1f3c0} \u{2728}"),
    ("\u{3a0}\u{2019} \u{a9} \u{ae} \u{2122}", "\u{3a0}' \u{a9} \u{ae} \u{2122}"),
    ("20\u{c2}\u{b0}", "20\u{b0}"),
    ("hv\u{c4}\u{203a}zd", "hv\u{11b}zd"),
    ("\u{c5}\u{ba}rebi\u{c4}\u{2122}", "\u{17a}rebi\u{119}"),
    ("\u{c5}\u{91}!", "\u{151}!"),
    ("CAF\u{c9}\u{2026}", "CAF\u{c9}\u{2026}"),
    ("CAF\u{c9}\u{2019}S", "CAF\u{c9}'S"),
    ("CAF\u{c9}\u{2014}NO\u{cb}L", "CAF\u{c9}\u{2014}NO\u{cb}L"),
    ("AMANH\u{c3}\u{2019}S", "AMANH\u{c3}'S"),
    ("good line\u{a}caf\u{c3}\u{a9}\u{a}caf\u{e9}", "good line caf\u{e9} caf\u{e9}"),
    ("S\u{e3}o Paulo \u{e0} noite", "S\u{e3}o Paulo \u{e0} noite"),
    ("pi\u{f1}ata \u{bf}qu\u{e9}? \u{a1}s\u{ed}!", "pi\u{f1}ata \u{bf}qu\u{e9}? \u{a1}s\u{ed}!"),
    ("\u{dc}ber 30 \u{20ac}", "\u{dc}ber 30 \u{20ac}"),
    ("1\u{a0}000\u{a0}\u{20ac}", "1 000 \u{20ac}"),
    ("5\u{2032} 6\u{2033} \u{bc}", "5\u{2032} 6\u{2033} \u{bc}"),
];
