//! Everything that is printed.
//!
//! Results go to standard output, what is said about them to standard error. A
//! reader that went away (`filmloom plan | head -1`) is no failure: what it
//! does not want to read is dropped, and a video is finished all the same.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// Writes a result's text to standard output.
pub(crate) fn result(text: &str) {
    write(&mut io::stdout().lock(), text);
}

/// Writes a line to standard output.
pub(crate) fn result_line(line: &str) {
    result(&format!("{line}\n"));
}

/// Writes a line to standard error.
pub(crate) fn say(line: &str) {
    write(&mut io::stderr().lock(), &format!("{line}\n"));
}

/// Says why a command ended.
pub(crate) fn failure(failure: &Failure) {
    say(&failure.to_string());
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

fn write(stream: &mut dyn Write, text: &str) {
    // A reader that went away does not want to hear that it did.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// A line on the terminal that shows how far a video is.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that reaches its end at `length`.
    pub(crate) fn new(length: u64) -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:20} {msg}")
            .expect("the template is well-formed")
            .progress_chars("━╸─");
        let target = ProgressDrawTarget::stderr();
        Self(ProgressBar::with_draw_target(Some(length), target).with_style(style))
    }

    /// Moves the bar and changes the words beside it.
    pub(crate) fn show(&self, position: u64, before: String, after: String) {
        self.0.set_position(position);
        self.0.set_prefix(before);
        self.0.set_message(after);
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
