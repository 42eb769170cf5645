//! A model's tokenizer: text to ids of a fixed length.
//!
//! The file is Hugging Face's `tokenizer.json`. What it says about truncation
//! and padding is set aside: the transformer's text length decides, tokens that
//! do not fit are dropped from the end of the text (the closing mark stays), and
//! both that and words the tokenizer does not know are told to the caller, since
//! neither can be seen in the ids.

use std::ops::Range;

use checkpoint::json_words;
use tokenizers::{Encoding, ModelWrapper, PostProcessor};

use crate::text::Error;

/// A model's tokenizer, for texts of a fixed length.
#[derive(Debug)]
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    file: String,
    text_len: usize,
    /// Tokens that are added to every text.
    special: usize,
    padding: u32,
    /// The id that stands for what is not in the vocabulary, if there is one.
    unknown: Option<u32>,
    /// Ids that the text encoder takes, from 0.
    vocabulary: usize,
}

/// A tokenized text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, as many as the text length.
    pub ids: Vec<u32>,
    /// True for the text's own tokens, which come first; false for padding.
    pub mask: Vec<bool>,
    /// Tokens at the end of the text that did not fit.
    pub dropped: usize,
    /// Words with a part that the tokenizer does not know, as they are written
    /// in the text, each once. Punctuation is not reported.
    pub unknown: Vec<String>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` is its name in messages, `text_len` the
    /// number of tokens that every text gets, `vocabulary` the number of rows in
    /// the text encoder's table.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file cannot be used, [`Error::TextLength`] if
    /// `text_len` leaves no room for a word.
    pub fn new(
        file: &str,
        bytes: &[u8],
        text_len: usize,
        vocabulary: usize,
    ) -> Result<Self, Error> {
        let refused = |problem: &dyn ToString| Error::Tokenizer {
            file: file.to_owned(),
            problem: json_words(&problem.to_string()),
        };
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|cause| refused(&cause))?;
        let padding = match tokenizer.get_padding() {
            Some(padding) => padding.pad_id,
            None => tokenizer.token_to_id("<pad>").unwrap_or(0),
        };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|cause| refused(&cause))?;
        let special = tokenizer.get_post_processor().map_or(0, |added| added.added_tokens(false));
        if text_len <= special {
            return Err(Error::TextLength { file: file.to_owned(), text_len, special });
        }
        let unknown = unknown_token(&tokenizer).and_then(|token| tokenizer.token_to_id(&token));
        let file = file.to_owned();
        Ok(Self { tokenizer, file, text_len, special, padding, unknown, vocabulary })
    }

    /// Number of tokens that every text gets.
    pub fn text_len(&self) -> usize {
        self.text_len
    }

    /// The tokens of `text`, which may be empty (an unguided branch's prompt).
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file's rules cannot be applied to the text,
    /// [`Error::OtherVocabulary`] if they give ids that the text encoder lacks.
    pub fn tokens(&self, text: &str) -> Result<Tokens, Error> {
        let refused = |problem: String| Error::Tokenizer { file: self.file.clone(), problem };
        let mut encoding =
            self.tokenizer.encode(text, false).map_err(|cause| refused(cause.to_string()))?;
        let unknown = self.unknown_words(text, &encoding);
        let room = self.text_len - self.special;
        let dropped = encoding.len().saturating_sub(room);
        encoding.truncate(room, 0, tokenizers::TruncationDirection::Right);
        let encoding = self
            .tokenizer
            .post_process(encoding, None, true)
            .map_err(|cause| refused(cause.to_string()))?;
        let mut ids = encoding.get_ids().to_vec();
        if self.text_len < ids.len() {
            return Err(refused(format!("{} tokens where {} fit", ids.len(), self.text_len)));
        }
        if let Some(position) = ids.iter().position(|&id| self.vocabulary <= id as usize) {
            let (file, id, vocabulary) = (self.file.clone(), ids[position], self.vocabulary);
            return Err(Error::OtherVocabulary { file, position, id, vocabulary });
        }
        let mut mask = vec![true; ids.len()];
        ids.resize(self.text_len, self.padding);
        mask.resize(self.text_len, false);
        Ok(Tokens { ids, mask, dropped, unknown })
    }

    fn unknown_words(&self, text: &str, encoding: &Encoding) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        for (_, &(start, end)) in tokens.filter(|&(&id, _)| Some(id) == self.unknown) {
            for word in words_at(text, start..end) {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
            }
        }
        words
    }
}

/// The token that a model gives to what it does not know.
fn unknown_token(tokenizer: &tokenizers::Tokenizer) -> Option<String> {
    match tokenizer.get_model() {
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::BPE(model) => model.get_unk_token().clone(),
        // The library keeps its index to itself; T5's vocabularies have this name.
        ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
    }
}

/// Words of `text` that the token at `range` is part of: runs without white
/// space or hyphens, less the punctuation around them. None if the token itself
/// is only punctuation.
fn words_at(text: &str, range: Range<usize>) -> impl Iterator<Item = &str> {
    let is_break = |c: char| c.is_whitespace() || c == '-';
    let token = text.get(range.clone()).unwrap_or_default();
    let start = range.start + token.len() - token.trim_start_matches(is_mark).len();
    let end = start + token.trim_matches(is_mark).len();
    let mut at = 0;
    text.split_inclusive(is_break).filter_map(move |piece| {
        let place = at..at + piece.len();
        at = place.end;
        let touched = start < end && start < place.end && place.start < end;
        touched.then(|| piece.trim_matches(is_mark)).filter(|word| !word.is_empty())
    })
}

/// White space and punctuation of the common scripts.
fn is_mark(c: char) -> bool {
    let is_general =
        ('\u{2010}'..='\u{205e}').contains(&c) || ('\u{3001}'..='\u{303f}').contains(&c);
    let is_latin = ('\u{a1}'..='\u{bf}').contains(&c) && !c.is_alphanumeric();
    c.is_whitespace() || c.is_ascii_punctuation() || is_general || is_latin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_closed_and_padded_to_the_text_length() {
        let tokens = tokenizer(6).tokens("a RED  ball").unwrap();

        assert_eq!(tokens.ids, [3, 4, 5, 1, 0, 0]);
        assert_eq!(tokens.mask, [true, true, true, true, false, false]);
        assert_eq!((tokens.dropped, tokens.unknown.len()), (0, 0));
    }

    #[test]
    fn text_that_is_too_long_loses_its_end_but_not_its_closing_mark() {
        let tokens = tokenizer(4).tokens("a red ball a red").unwrap();

        assert_eq!(tokens.ids, [3, 4, 5, 1]);
        assert_eq!(tokens.mask, [true; 4]);
        assert_eq!(tokens.dropped, 2);
        assert_eq!(tokenizer(4).tokens("a red ball").unwrap().dropped, 0);
    }

    #[test]
    fn empty_text_is_the_closing_mark_alone() {
        let tokens = tokenizer(3).tokens("").unwrap();

        assert_eq!(tokens.ids, [1, 0, 0]);
        assert_eq!(tokens.mask, [true, false, false]);
    }

    #[test]
    fn unknown_words_are_named_once_as_they_are_written() {
        let unknown = |text: &str| tokenizer(32).tokens(text).unwrap().unknown;

        assert_eq!(unknown("a Zebra, a red ball; a zebra! A Zebra"), ["Zebra", "zebra"]);
        assert_eq!(unknown("a red-hot ball: (a ball) ... a\u{2014}ball\u{2019}"), ["hot"]);
        assert_eq!(
            unknown("a ball\u{3000}\u{1f3c0}\u{3000}caf\u{e9}\u{3002} b\u{e4}ll"),
            ["\u{1f3c0}", "caf\u{e9}", "b\u{e4}ll"]
        );
        assert_eq!(unknown("the ball's"), ["the", "ball's"]);
        assert_eq!(unknown(""), [""; 0]);
    }

    #[test]
    fn unknown_piece_names_the_whole_word() {
        let tokenizer = Tokenizer::new("tokenizer.json", PIECES.as_bytes(), 16, 8).unwrap();

        let tokens = tokenizer.tokens("a red  ball zeb\u{1f3c0}red, red").unwrap();

        let unknown = 2;
        assert_eq!(tokens.ids[..9], [4, 5, 7, 3, unknown, 6, unknown, 5, 1]);
        assert_eq!(tokens.unknown, ["zeb\u{1f3c0}red"]);
    }

    #[test]
    fn unknown_words_are_named_even_where_they_are_dropped() {
        assert_eq!(tokenizer(3).tokens("a red ball zebra").unwrap().unknown, ["zebra"]);
    }

    #[test]
    fn unusable_files_and_lengths_are_refused_by_name() {
        let new = |bytes: &[u8], text_len| Tokenizer::new("m/tokenizer.json", bytes, text_len, 6);

        let error = new(b"{\"version\": \"1.0\"", 8).unwrap_err();
        assert!(error.to_string().starts_with("m/tokenizer.json: no usable tokenizer"), "{error}");
        for (damaged, problem) in [
            ("[]", "invalid type: sequence, expected an object at line 1 column 2"),
            (r#"{"model": {"type": "New"}}"#, "a value of no kind that is known"),
        ] {
            let error = new(damaged.as_bytes(), 8).unwrap_err().to_string();
            assert!(error.contains(&format!("no usable tokenizer: {problem}")), "{error}");
        }
        let error = new(FILE.as_bytes(), 1).unwrap_err();
        assert!(matches!(error, Error::TextLength { text_len: 1, special: 1, .. }), "{error}");
    }

    #[test]
    fn tokenizer_of_another_model_is_named_with_the_id_it_gives() {
        let file = "m/tokenizer.json";
        let tokenizer = Tokenizer::new(file, FILE.as_bytes(), 4, 5).unwrap();

        // The ball has the first id that the encoder lacks; where it is dropped it does no harm.
        assert!(tokenizer.tokens("a red a ball").is_ok());
        assert_eq!(
            tokenizer.tokens("red ball").unwrap_err().to_string(),
            "m/tokenizer.json: gives token 1 of the text the id 5, but the text encoder has rows \
             for ids below 5: put the same model's tokenizer there"
        );
    }

    fn tokenizer(text_len: usize) -> Tokenizer {
        Tokenizer::new("tokenizer.json", FILE.as_bytes(), text_len, 6).unwrap()
    }

    /// Words `a`, `red` and `ball`, lower-cased, closed by `</s>`; its own length is not heeded.
    const FILE: &str = r#"{
        "version": "1.0",
        "truncation": {"direction": "Left", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 2}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"},
        "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "<unk>",
            "vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "ball": 5}}
    }"#;

    /// Pieces as T5 has them: a word's first carries the space before it.
    const PIECES: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
            "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": false,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -2.0], ["\u2581a", -2.0],
                ["\u2581red", -2.0], ["red", -3.0], ["\u2581ball", -2.0]]}
    }"#;
}
