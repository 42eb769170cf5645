//! The fields of a request for a video: from texts to a [`NewVideo`].
//!
//! ```text
//! JSON object ──┐
//!               ├─▶ Fields: name ─▶ text ─▶ resolve ─▶ NewVideo
//! form parts  ──┘
//! ```
//!
//! Both kinds of body come through here, so they mean the same: a number may be
//! given as a number or as a text, a schedule as a list or as a text that holds
//! one. A field that is not known is refused, with the name that was probably
//! meant; one that other servers know says what to do instead. Every message
//! names the field, what was given and what would be right.
//!
//! Invariants: a field is given at most once, and what was not given, or as
//! `null`, stays [`None`].

use std::{borrow::Cow, collections::BTreeMap, str::FromStr};

use serde_json::value::RawValue;

use crate::{
    refusal::{Refusal, invalid},
    unsupported,
    video::{NewVideo, NotASize, ScheduledPrompt, Size},
};

/// Fields of a request for a video.
pub(crate) const NAMES: [&str; 9] =
    ["prompt", "model", "seconds", "size", "seed", "fps", "prompt_schedule", "priority", "user"];

/// Characters of a wrong value that a message repeats. Chosen.
const REPEATED_CHARS_MAX: usize = 40;
/// Characters of a parser's own words that a message repeats: those may hold all
/// of a wrong value. Chosen.
const WORDS_CHARS_MAX: usize = 120;

/// Fields that were given, by name.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(BTreeMap<&'static str, Given<'a>>);

/// A value as it came.
#[derive(Debug)]
pub(crate) enum Given<'a> {
    /// A part of a form.
    Text(String),
    /// A value of a JSON object.
    Json(&'a RawValue),
}

impl<'a> Fields<'a> {
    /// The field of this name, if it may come: a check before its value is read.
    pub(crate) fn admit(&self, name: &str) -> Result<&'static str, Refusal> {
        let Some(known) = NAMES.into_iter().find(|known| *known == name) else {
            return Err(unsupported::refuse(name));
        };
        if self.0.contains_key(known) {
            return Err(invalid(known, format!("`{known}` is given twice; give it once")));
        }
        Ok(known)
    }

    pub(crate) fn insert(&mut self, name: &'static str, given: Given<'a>) {
        self.0.insert(name, given);
    }

    /// What is asked for.
    pub(crate) fn resolve(mut self) -> Result<NewVideo, Refusal> {
        let prompt = self.text("prompt", NewVideo::PROMPT_CHARS_MAX)?.ok_or_else(|| {
            invalid("prompt", "`prompt` is missing; give a text of what is to be seen")
        })?;
        Ok(NewVideo {
            prompt,
            model: self.text("model", NewVideo::NAME_CHARS_MAX)?,
            seconds: self.parsed("seconds", is_length, || {
                let most = NewVideo::SECONDS_MAX;
                format!("give a number above 0 and at most {most}, such as 60")
            })?,
            size: self.parsed("size", |_: &Size| true, || NotASize.to_string())?,
            seed: self.parsed(
                "seed",
                |_: &u64| true,
                || format!("give a whole number from 0 to {}", u64::MAX),
            )?,
            fps: self.parsed(
                "fps",
                |fps| (1..=NewVideo::FPS_MAX).contains(fps),
                || format!("give a whole number from 1 to {}", NewVideo::FPS_MAX),
            )?,
            prompt_schedule: self.schedule("prompt_schedule")?,
            priority: self.priority("priority")?,
            user: self.text("user", NewVideo::NAME_CHARS_MAX)?,
        })
    }

    fn text(&mut self, name: &'static str, chars_max: usize) -> Result<Option<String>, Refusal> {
        let Some(given) = self.0.remove(name) else { return Ok(None) };
        let Some(text) = given.strict() else {
            return Err(invalid(name, format!("`{name}` is not a text; put it in quotes")));
        };
        check_text(name, &text, chars_max)?;
        Ok(Some(text))
    }

    fn priority(&mut self, name: &'static str) -> Result<Option<i8>, Refusal> {
        let (least, most) = (NewVideo::PRIORITY_MIN, NewVideo::PRIORITY_MAX);
        self.parsed(
            name,
            |priority| (least..=most).contains(priority),
            || format!("give a whole number from {least} to {most}; higher goes first"),
        )
    }

    /// A value that has a text form.
    fn parsed<T: FromStr>(
        &mut self,
        name: &'static str,
        is_allowed: impl FnOnce(&T) -> bool,
        advice: impl FnOnce() -> String,
    ) -> Result<Option<T>, Refusal> {
        let Some(given) = self.0.remove(name) else { return Ok(None) };
        let text = given.loose();
        let value = text.trim().parse().ok().filter(is_allowed);
        value
            .map(Some)
            .ok_or_else(|| invalid(name, format!("`{name}` is {}; {}", repeated(&text), advice())))
    }

    fn schedule(&mut self, name: &'static str) -> Result<Option<Vec<ScheduledPrompt>>, Refusal> {
        let Some(given) = self.0.remove(name) else { return Ok(None) };
        let text = given.loose();
        let mut json = serde_json::Deserializer::from_str(&text);
        let parsed = serde_path_to_error::deserialize(&mut json);
        let schedule: Vec<ScheduledPrompt> = parsed.map_err(|error| {
            let param = match error.path().to_string() {
                path if path.starts_with('[') => format!("{name}{}", cut(&path)),
                _ => name.to_owned(),
            };
            let what = error.into_inner().to_string();
            let what = cut(&what);
            let advice = r#"give a list such as [{"at_seconds": 10, "prompt": "then it rains"}]"#;
            invalid(&param, format!("`{name}` cannot be read ({what}); {advice}"))
        })?;
        let rest = json.end();
        rest.map_err(|_| {
            invalid(name, format!("`{name}` has more behind its list; end it there"))
        })?;
        check_schedule(name, &schedule)?;
        Ok(Some(schedule))
    }
}

impl Given<'_> {
    /// A form's text, or a JSON text.
    fn strict(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(json) => serde_json::from_str(json.get()).ok(),
        }
    }

    /// The same, and any other JSON value as it was written.
    fn loose(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Json(json) => match serde_json::from_str::<String>(json.get()) {
                Ok(text) => Cow::Owned(text),
                Err(_) => Cow::Borrowed(json.get()),
            },
        }
    }
}

fn is_length(seconds: &f64) -> bool {
    0.0 < *seconds && *seconds <= NewVideo::SECONDS_MAX
}

fn check_text(param: &str, text: &str, chars_max: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(invalid(param, format!("`{param}` is empty; give a text, or leave it out")));
    }
    let chars = text.chars().count();
    if chars_max < chars {
        let message = format!("`{param}` has {chars} characters; give at most {chars_max}");
        return Err(invalid(param, message));
    }
    Ok(())
}

fn check_schedule(name: &str, schedule: &[ScheduledPrompt]) -> Result<(), Refusal> {
    let (found, most) = (schedule.len(), NewVideo::SCHEDULE_MAX);
    if most < found {
        return Err(invalid(name, format!("`{name}` has {found} prompts; give at most {most}")));
    }
    let mut before = 0.0;
    for (index, ScheduledPrompt { at_seconds, prompt }) in schedule.iter().enumerate() {
        let param = format!("{name}[{index}].at_seconds");
        if !is_length(at_seconds) || *at_seconds <= before {
            let most = NewVideo::SECONDS_MAX;
            let message = format!(
                "`{param}` is {at_seconds}; give numbers above 0 that grow from prompt to prompt, \
                 at most {most}"
            );
            return Err(invalid(&param, message));
        }
        before = *at_seconds;
        check_text(&format!("{name}[{index}].prompt"), prompt, NewVideo::PROMPT_CHARS_MAX)?;
    }
    Ok(())
}

/// A wrong value in quotes, cut where it gets long.
pub(crate) fn repeated(text: &str) -> String {
    let head = head(text, REPEATED_CHARS_MAX);
    let dots = if head.len() < text.len() { "..." } else { "" };
    format!("{head:?}{dots}")
}

/// A parser's own words, cut where they get long.
pub(crate) fn cut(words: &str) -> &str {
    head(words, WORDS_CHARS_MAX)
}

fn head(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(end, _)| end);
    &text[..end]
}
