//! What a JSON parser complains of, in the words of JSON.
//!
//! The library names the Rust types that it fills, which tell a reader of the
//! file nothing.

/// What the library expected, and how we say it.
const EXPECTED: [(&str, &str); 8] = [
    ("f32", "a number"),
    ("f64", "a number"),
    ("i64", "a whole number"),
    ("u32", "a whole number from 0 on"),
    ("usize", "a whole number from 0 on"),
    ("a map", "an object"),
    ("a sequence", "a list"),
    ("string or map", "a name"),
];
const STRUCT: &str = "struct ";
const NO_VARIANT: &str = "data did not match any variant of untagged enum ";

/// The problem without names of Rust types.
pub fn json_words(problem: &str) -> String {
    if let Some((before, named)) = problem.split_once(NO_VARIANT) {
        return format!("{before}a value of no kind that is known{}", after_name(named));
    }
    let Some((before, expected)) = problem.split_once("expected ") else {
        return problem.to_owned();
    };
    let said = |ours: &str, rest: &str| format!("{before}expected {ours}{rest}");
    if let Some(named) = expected.strip_prefix(STRUCT) {
        return said("an object", after_name(named));
    }
    let known = EXPECTED.iter().find_map(|(library, ours)| {
        let rest = expected.strip_prefix(library)?;
        (after_name(rest).len() == rest.len()).then(|| said(ours, rest))
    });
    known.unwrap_or_else(|| problem.to_owned())
}

/// What follows a name.
fn after_name(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_as_json_has_them_and_all_else_stays() {
        for (library, ours) in [
            (
                "invalid value: integer `-1`, expected usize",
                "invalid value: integer `-1`, expected a whole number from 0 on",
            ),
            (
                "invalid type: string \"a\", expected f64",
                "invalid type: string \"a\", expected a number",
            ),
            (
                "invalid type: sequence, expected a map at line 1 column 0",
                "invalid type: sequence, expected an object at line 1 column 0",
            ),
            (
                "invalid type: integer `5`, expected struct Tokenizer_2 at line 3 column 1",
                "invalid type: integer `5`, expected an object at line 3 column 1",
            ),
            (
                "data did not match any variant of untagged enum ModelUntagged at line 1 column 40",
                "a value of no kind that is known at line 1 column 40",
            ),
            (
                "unknown variant `x`, expected `a` or `b`",
                "unknown variant `x`, expected `a` or `b`",
            ),
            ("expected f64s", "expected f64s"),
            ("expected value at line 1 column 1", "expected value at line 1 column 1"),
            ("missing field `dim`", "missing field `dim`"),
        ] {
            assert_eq!(json_words(library), ours);
        }
    }
}
