//! Whole control messages, checked once when they have come.
//!
//! A message is small on the wire and may be large in memory: an empty entry of a
//! list has two bytes there and some fifty here. So lists are bounded before a
//! message is kept. Texts for people are cut, not refused: a long reason is a reason
//! too. What a terminal would obey in them is replaced.
//!
//! What a field means is read where it is used, with the functions of
//! [`super`].

use std::borrow::Cow;

use types::text::plain;

use super::wire::{self, from_worker::Kind as Said, to_worker::Kind as Asked};
use crate::{
    Malformed,
    field::{self, within},
};

/// Bytes of a request to join, and of the answer.
pub const JOIN_BYTES_MAX: usize = 16 << 10;

/// Bytes of a message from a worker, at most.
pub const FROM_WORKER_BYTES_MAX: usize = 256 << 10;

/// Bytes of a message to a worker, at most: 64 prompts of 8,000 characters fit.
pub const TO_WORKER_BYTES_MAX: usize = 4 << 20;

/// Jobs that a worker can have something of.
const JOBS_MAX: usize = 1 << 10;
/// Models and numeric classes of a worker, workers that one is to speak with.
const FEW_MAX: usize = 64;
/// Prompts of a job, and what they became.
const PROMPTS_MAX: usize = 256;
const PROMPT_CHARACTERS_MAX: usize = 8_000;
/// Names of nodes, models and classes.
const NAME_CHARACTERS_MAX: usize = 256;
/// Reasons, for people.
const REASON_CHARACTERS_MAX: usize = 4_000;
/// Devices and software, for people.
const LABEL_CHARACTERS_MAX: usize = 128;

/// A message from a worker, if it is none that no honest worker sends.
///
/// # Errors
///
/// [`Malformed`] if a list is too long, an entry of it is not what it must be, or a
/// count is not a number.
pub fn from_worker(mut message: wire::FromWorker) -> Result<wire::FromWorker, Malformed> {
    match &mut message.kind {
        Some(Said::Hello(hello)) => check_hello(hello)?,
        Some(Said::Heartbeat(heartbeat)) => check_heartbeat(heartbeat)?,
        Some(Said::Profiled(wire::Profiled { problem, .. })) => cut_problem(problem),
        Some(Said::Opened(wire::Opened { problem, .. })) => cut_problem(problem),
        Some(Said::LinkMeasured(wire::LinkMeasured { problem, .. })) => cut_problem(problem),
        Some(Said::StageFailed(failed)) => cut(&mut failed.problem, REASON_CHARACTERS_MAX),
        Some(Said::JobFailed(failed)) => cut(&mut failed.problem, REASON_CHARACTERS_MAX),
        Some(Said::LinkFailed(failed)) => cut(&mut failed.problem, REASON_CHARACTERS_MAX),
        Some(Said::Leaving(leaving)) => cut(&mut leaving.reason, REASON_CHARACTERS_MAX),
        Some(Said::StageReady(_) | Said::Closed(_)) | None => {}
    }
    Ok(message)
}

/// A message to a worker, if it is none that no honest coordinator sends.
///
/// # Errors
///
/// [`Malformed`] if a list or a text is too long.
pub fn to_worker(mut message: wire::ToWorker) -> Result<wire::ToWorker, Malformed> {
    match &mut message.kind {
        Some(Asked::Welcome(wire::Welcome { model: Some(model), .. })) => {
            name("model.name", &model.name)?;
        }
        Some(Asked::Refusal(refusal)) => cut(&mut refusal.message, REASON_CHARACTERS_MAX),
        Some(Asked::Assign(assign)) => {
            within("peers", assign.peers.len(), 0..=FEW_MAX)?;
        }
        Some(Asked::Encode(encode)) => {
            within("prompts", encode.prompts.len(), 0..=PROMPTS_MAX)?;
            for prompt in &encode.prompts {
                field::check_text("a prompt", prompt, PROMPT_CHARACTERS_MAX)?;
            }
        }
        Some(Asked::Open(open)) => {
            within("contexts", open.contexts.len(), 0..=PROMPTS_MAX)?;
        }
        Some(
            Asked::Welcome(_)
            | Asked::Profile(_)
            | Asked::Release(_)
            | Asked::Close(_)
            | Asked::MeasureLink(_)
            | Asked::Drain(_)
            | Asked::Connect(_),
        )
        | None => {}
    }
    Ok(message)
}

fn check_hello(hello: &mut wire::Hello) -> Result<(), Malformed> {
    name("name", &hello.name)?;
    cut(&mut hello.software, LABEL_CHARACTERS_MAX);
    cut(&mut hello.device, LABEL_CHARACTERS_MAX);
    within("classes", hello.classes.len(), 0..=FEW_MAX)?;
    hello.classes.iter().try_for_each(|class| name("a class", class))?;
    within("models", hello.models.len(), 0..=FEW_MAX)?;
    for model in &hello.models {
        super::model_digest(model)?;
    }
    within("held", hello.held.len(), 0..=JOBS_MAX)?;
    Ok(())
}

fn check_heartbeat(heartbeat: &wire::Heartbeat) -> Result<(), Malformed> {
    within("progress", heartbeat.progress.len(), 0..=JOBS_MAX)?;
    within("links", heartbeat.links.len(), 0..=FEW_MAX)?;
    heartbeat.counters.map_or(Ok(()), |counters| super::counters(counters).map(drop))
}

fn name(field: &'static str, text: &str) -> Result<(), Malformed> {
    field::check_text(field, text, NAME_CHARACTERS_MAX)
}

fn cut_problem(problem: &mut Option<String>) {
    problem.iter_mut().for_each(|problem| cut(problem, REASON_CHARACTERS_MAX));
}

fn cut(text: &mut String, characters_max: usize) {
    if let Some((end, _)) = text.char_indices().nth(characters_max) {
        text.truncate(end);
        text.shrink_to_fit();
    }
    if let Cow::Owned(plain) = plain(text) {
        *text = plain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_a_length_that_no_honest_worker_sends_are_refused() {
        let said = |kind| wire::FromWorker { incarnation: 1, kind: Some(kind) };
        let hello = |hello| from_worker(said(Said::Hello(hello))).map(drop);
        let beat = |beat| from_worker(said(Said::Heartbeat(beat))).map(drop);
        let models = |count, bytes| vec![vec![7; bytes]; count];
        let progress = |count| vec![wire::Progress::default(); count];
        let good = wire::Hello { models: models(FEW_MAX, 32), ..wire::Hello::default() };
        assert_eq!(hello(good), Ok(()));
        let good = wire::Heartbeat { progress: progress(JOBS_MAX), ..wire::Heartbeat::default() };
        assert_eq!(beat(good), Ok(()));

        let links = vec![wire::LinkSeen::default(); FEW_MAX + 1];
        let counters = wire::Counters { wait_seconds: f64::NAN, ..wire::Counters::default() };
        let fields = [
            hello(wire::Hello { models: models(FEW_MAX + 1, 32), ..wire::Hello::default() }),
            hello(wire::Hello { models: models(1, 33), ..wire::Hello::default() }),
            hello(wire::Hello { name: "n".repeat(257), ..wire::Hello::default() }),
            hello(wire::Hello { classes: vec!["c".repeat(257)], ..wire::Hello::default() }),
            beat(wire::Heartbeat {
                progress: progress(JOBS_MAX + 1),
                ..wire::Heartbeat::default()
            }),
            beat(wire::Heartbeat { counters: Some(counters), ..wire::Heartbeat::default() }),
            beat(wire::Heartbeat { links, ..wire::Heartbeat::default() }),
        ]
        .map(|refused| refused.unwrap_err().field);

        let expected = ["models", "model digest", "name", "a class", "progress"];
        assert_eq!(fields[..5], expected);
        assert_eq!(fields[5..], ["counters.wait_seconds", "links"]);
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let problem = "ä".repeat(REASON_CHARACTERS_MAX + 1);
        let failed = wire::JobFailed { fence: None, problem };
        let kind = Some(Said::JobFailed(failed));

        let checked = from_worker(wire::FromWorker { incarnation: 1, kind }).unwrap();

        let Some(Said::JobFailed(failed)) = checked.kind else { panic!("{checked:?}") };
        assert_eq!(failed.problem, "ä".repeat(REASON_CHARACTERS_MAX));
    }

    #[test]
    fn labels_and_reasons_give_a_terminal_no_orders_and_names_with_some_are_refused() {
        let failed = wire::JobFailed { fence: None, problem: "no\x1b[2J room".to_owned() };
        let hello = wire::Hello {
            device: "cpu\u{9b}31m".to_owned(),
            name: "box\x1b]0;title\x07".to_owned(),
            classes: vec!["cpu-f32".to_owned()],
            ..wire::Hello::default()
        };
        let said = |kind| from_worker(wire::FromWorker { incarnation: 1, kind: Some(kind) });

        let failed = said(Said::JobFailed(failed)).unwrap().kind.unwrap();
        let hello = said(Said::Hello(hello)).unwrap().kind.unwrap();

        assert!(
            matches!(failed, Said::JobFailed(failed) if failed.problem == "no\u{fffd}[2J room")
        );
        let Said::Hello(hello) = hello else { panic!("{hello:?}") };
        assert_eq!(hello.device, "cpu\u{fffd}31m");
        let refused = crate::control::offer(&hello).unwrap_err();
        assert!(refused.problem.contains("\\u{1b}"), "{refused}");
    }

    #[test]
    fn orders_that_no_honest_coordinator_gives_are_refused() {
        let asked = |kind| to_worker(wire::ToWorker { incarnation: 1, kind: Some(kind) });
        let encode = |prompts| asked(Asked::Encode(wire::Encode { prompts, ..Default::default() }));
        assert!(encode(vec!["p".repeat(PROMPT_CHARACTERS_MAX); 64]).is_ok());

        let peers = vec![wire::Peer::default(); FEW_MAX + 1];
        let contexts = vec![wire::ContextUse::default(); PROMPTS_MAX + 1];
        let fields = [
            encode(vec!["p".repeat(PROMPT_CHARACTERS_MAX + 1)]),
            encode(vec![String::new(); PROMPTS_MAX + 1]),
            asked(Asked::Assign(wire::Assign { peers, ..Default::default() })),
            asked(Asked::Open(wire::Open { contexts, ..Default::default() })),
        ]
        .map(|refused| refused.unwrap_err().field);

        assert_eq!(fields, ["a prompt", "prompts", "peers", "contexts"]);
    }
}
