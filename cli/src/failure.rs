//! Why a command ends without its result, and the exit status that says so.
//!
//! The libraries' errors are divided by what the user does next: correct the
//! input (status 2), or mend the machine (status 1).

use std::fmt;

/// Why a command ends without its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Arguments, files or sizes are wrong: correct them.
    Input(String),
    /// The machine failed (a full disk, say), or we did.
    Machine(String),
    /// A signal stopped the command; what was made is kept.
    Interrupted(String),
}

impl Failure {
    /// The process' exit status.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Machine(_) => 1,
            Self::Interrupted(_) => 130,
        }
    }

    /// The message on one line, whatever names it repeats.
    pub(crate) fn line(&self) -> String {
        let (Self::Input(message) | Self::Machine(message) | Self::Interrupted(message)) = self;
        one_line(message)
    }

    /// The same failure with something added to its message.
    pub(crate) fn with(self, more: &str) -> Self {
        let add = |message: String| format!("{message}{more}");
        match self {
            Self::Input(message) => Self::Input(add(message)),
            Self::Machine(message) => Self::Machine(add(message)),
            Self::Interrupted(message) => Self::Interrupted(add(message)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(_) | Self::Machine(_) => write!(f, "error: {}", self.line()),
            Self::Interrupted(_) => write!(f, "stopped: {}", self.line()),
        }
    }
}

/// Replaces what would break a line or drive a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split('\n').map(str::trim).filter(|words| !words.is_empty());
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Errors that only other arguments, files or sizes can mend.
macro_rules! wrong_input {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Input(error.to_string())
            }
        }
    )*};
}

wrong_input!(
    checkpoint::Error,
    plan::length::Error,
    plan::memory::Error,
    plan::passes::Error,
    plan::report::Error,
);

impl From<plan::memory::DoesNotFit> for Failure {
    fn from(error: plan::memory::DoesNotFit) -> Self {
        Self::Input(format!("not enough memory: {error}"))
    }
}

impl From<backend::Error> for Failure {
    fn from(error: backend::Error) -> Self {
        use backend::Error;
        match error {
            Error::OddWidth { .. } | Error::NoClass(_) => Self::Input(error.to_string()),
            Error::Memory { .. } | Error::Threads { .. } | Error::Device(_) => {
                Self::Machine(error.to_string())
            }
        }
    }
}

impl From<model::Error> for Failure {
    fn from(error: model::Error) -> Self {
        use model::Error;
        match error {
            Error::Backend(error) => error.into(),
            Error::Checkpoint(_)
            | Error::Slots(_)
            | Error::Passes(_)
            | Error::Text(_)
            | Error::Shape { .. }
            | Error::Axes { .. }
            | Error::Range { .. }
            | Error::Size { .. }
            | Error::NoWindow => Self::Input(error.to_string()),
            Error::Pass { .. }
            | Error::NotResident { .. }
            | Error::Layers { .. }
            | Error::NoPage { .. }
            | Error::NotFinite { .. }
            | Error::Rerun { .. } => Self::Machine(error.to_string()),
        }
    }
}

impl From<video::Error> for Failure {
    fn from(error: video::Error) -> Self {
        use video::Error;
        match error {
            Error::UnknownFormat { .. }
            | Error::Size { .. }
            | Error::Rate { .. }
            | Error::Open { .. }
            | Error::Busy { .. }
            | Error::FolderInUse { .. } => Self::Input(error.to_string()),
            Error::PictureBytes { .. }
            | Error::PictureSize { .. }
            | Error::Write { .. }
            | Error::Closed
            | Error::Encoder { .. } => Self::Machine(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_one_line_whatever_it_repeats() {
        let failure = Failure::Input("a\nfolder\n  of \u{1b}[31mred\r names\n".into());

        assert_eq!(failure.to_string(), "error: a folder of \u{fffd}[31mred\u{fffd} names");
        assert_eq!(failure.exit_code(), 2);
    }
}
