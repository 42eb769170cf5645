//! Everything that is printed.
//!
//! Results go to standard output, what is said about them to standard error. A
//! reader that went away (`filmloom plan | head -1`) is no failure: what it
//! does not want to read is dropped, and a video is finished all the same. A
//! result that is lost in another way (a full disk) is one.
//!
//! Some of it others chose: names of workers, reasons, what a server answers. What a
//! terminal would obey in that is replaced here, in JSON written as an escape.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use types::text::{is_plain, plain};

use crate::failure::Failure;

/// Writes a result's text to standard output.
///
/// # Errors
///
/// [`Failure::Machine`] if it is lost.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    match write(&mut io::stdout().lock(), &plain(text)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Machine(format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a result to standard output as one line of JSON.
///
/// # Errors
///
/// As [`result`].
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    json(serde_json::to_string(value))
}

/// Writes a result to standard output as JSON for people too.
///
/// # Errors
///
/// As [`result`].
pub(crate) fn json_lines(value: &impl Serialize) -> Result<(), Failure> {
    json(serde_json::to_string_pretty(value))
}

fn json(text: serde_json::Result<String>) -> Result<(), Failure> {
    let text = text.map_err(|error| Failure::Machine(format!("cannot write JSON: {error}")))?;
    result(&format!("{}\n", escaped(&text)))
}

/// JSON in which no string has a character that a terminal obeys.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        // Line ends stand between strings only.
        match character == '\n' || is_plain(character) {
            true => escaped.push(character),
            false => escaped += &format!("\\u{:04x}", u32::from(character)),
        }
    }
    escaped
}

/// Writes a line to standard error. Where that fails there is nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = write(&mut io::stderr().lock(), &format!("{}\n", plain(line)));
}

/// Says why a command ended, if it failed, and gives the process' exit status.
pub(crate) fn conclude(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            failure.exit_code().into()
        }
    }
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn write(stream: &mut dyn Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// A line on the terminal that shows how far a video is.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that reaches its end at `length`. It is not drawn before its first words are there.
    pub(crate) fn new(length: u64) -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:20} {msg}")
            .expect("the template is well-formed")
            .progress_chars("━╸─");
        let hidden = ProgressDrawTarget::hidden();
        Self(ProgressBar::with_draw_target(Some(length), hidden).with_style(style))
    }

    /// Moves the bar and changes the words beside it.
    pub(crate) fn show(&self, position: u64, before: String, after: String) {
        self.0.set_prefix(plain(&before).into_owned());
        self.0.set_message(plain(&after).into_owned());
        self.0.set_position(position);
        if self.0.is_hidden() {
            self.0.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Writes a line above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.0.suspend(|| say(line));
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_value_and_gives_a_terminal_no_orders() {
        let value = serde_json::json!({ "name": "a\x1b[2J\u{9b}\x7f\u{202e}ü" });

        let shown = escaped(&serde_json::to_string_pretty(&value).unwrap());

        assert!(
            shown.chars().all(|character| character == '\n' || is_plain(character)),
            "{shown:?}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
