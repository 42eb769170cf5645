//! The events of a video, until it is finished.
//!
//! ```text
//!  /events ──▶ told ──▶ done | failed | cancelled
//!     ▲          │ broken off, or silent for 45 s
//!     └── pause ─┘
//! ```
//!
//! A server that is asked again without `Last-Event-ID` tells everything from the
//! beginning, as one that was started anew does in any case; so what was told before is
//! known by what it says, and not by its id: chunks by their index, placements by their
//! epoch.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::making::{Making, Patience};
use crate::failure::Failure;

/// A server says every 10 s that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Bytes of an event, at most.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Follows the video's events until it is finished, and gives its number of pictures.
///
/// # Errors
///
/// [`Failure`] if it will not be finished, the server stays away, or the user asked to
/// stop.
pub(super) fn follow(making: &Making<'_>) -> Result<u64, Failure> {
    let (mut seen, mut patience) = (Seen::default(), Patience::new(Instant::now()));
    loop {
        let events = making.open("/events", SILENCE_MAX, &mut patience)?;
        let mut events = BufReader::new(events);
        let problem = loop {
            let line = match line(&mut events) {
                Ok(Some(line)) => line,
                Ok(None) => break "the server broke off".to_owned(),
                Err(error) => break format!("the server broke off: {error}"),
            };
            patience.handle_heard(Instant::now());
            let Some(event) = event(&line).filter(|event| seen.is_new(event)) else { continue };
            patience.handle_news();
            if let Some(pictures) = ending(&event)? {
                return Ok(pictures);
            }
            (making.tell)(&event);
        };
        making.wait(&mut patience, &problem)?;
    }
}

/// The next line; nothing at the end.
fn line(events: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    events.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        return Ok(Some(line));
    }
    match (line.len() as u64) < LINE_BYTES_MAX {
        true => Ok(None),
        false => Err(io::Error::new(ErrorKind::InvalidData, "an event has no end")),
    }
}

fn event(line: &[u8]) -> Option<Value> {
    let data = line.strip_prefix(b"data:")?;
    serde_json::from_slice::<Value>(data).ok().filter(Value::is_object)
}

/// The number of pictures of a finished video; nothing if it goes on.
fn ending(event: &Value) -> Result<Option<u64>, Failure> {
    match event["type"].as_str() {
        Some("done") => Ok(Some(event["pictures"].as_u64().unwrap_or(0))),
        Some("failed") => {
            let message = event["error"]["message"].as_str().unwrap_or("it does not say why");
            Err(Failure::Machine(format!("the server could not make it: {message}")))
        }
        Some("cancelled") => {
            Err(Failure::Machine("the video was deleted on the server".to_owned()))
        }
        Some(_) | None => Ok(None),
    }
}

/// What was told.
#[derive(Default)]
struct Seen {
    /// Videos that begin before it.
    position: Option<u64>,
    is_started: bool,
    /// Of the latest placement.
    epoch: u64,
    /// Chunks that were committed.
    chunks: u64,
}

impl Seen {
    /// Whether an event was not told before; it counts as told from now on.
    fn is_new(&mut self, event: &Value) -> bool {
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        let raise = |highest: &mut u64, number: u64| {
            let is_new = *highest < number;
            *highest = number.max(*highest);
            is_new
        };
        match event["type"].as_str() {
            Some("queued") => {
                let position = number("position");
                self.position.replace(position) != Some(position)
            }
            Some("started") => !std::mem::replace(&mut self.is_started, true),
            Some("planned") => raise(&mut self.epoch, number("epoch")),
            Some("chunk_committed") => raise(&mut self.chunks, number("chunk").saturating_add(1)),
            Some(_) | None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use fuzz::mutate::{Mutator, Shape};

    use super::*;
    use crate::{
        interrupt::Interrupt,
        remote::{
            Server,
            test_support::{Answer, Fake},
        },
    };

    const QUEUED: &str = r#"{"type":"queued","position":0}"#;
    const STARTED: &str = r#"{"type":"started"}"#;

    fn chunk(chunk: u64) -> String {
        format!(r#"{{"type":"chunk_committed","chunk":{chunk},"chunks":3,"pictures":9}}"#)
    }

    fn planned(epoch: u64) -> String {
        format!(r#"{{"type":"planned","epoch":{epoch}}}"#)
    }

    fn events(events: &[&str]) -> Answer {
        let events = events.iter().map(|event| format!("data: {event}\n\n"));
        Answer::ok(&events.collect::<String>())
    }

    fn making<'a>(
        server: &'a Server,
        interrupt: &'a Interrupt,
        tell: &'a dyn Fn(&Value),
    ) -> Making<'a> {
        Making { server, id: "v", content: "/content", interrupt, tell }
    }

    /// Follows a video of this server; gives what was told and how it ended.
    fn followed(fake: &Fake) -> (Vec<String>, Result<u64, Failure>) {
        let told = RefCell::new(Vec::new());
        let tell = |event: &Value| {
            let name = event["type"].as_str().unwrap().to_owned();
            let number = event["chunk"].as_u64().or(event["epoch"].as_u64());
            told.borrow_mut()
                .push(number.map_or(name.clone(), |number| format!("{name} {number}")));
        };
        let (server, interrupt) = (fake.server(), Interrupt::deaf());
        let ended = follow(&making(&server, &interrupt, &tell));
        (told.into_inner(), ended)
    }

    #[test]
    fn restarted_server_is_asked_again_and_nothing_is_told_twice() {
        let fake = Fake::start(vec![
            events(&[QUEUED, &planned(1), STARTED, &chunk(0)]),
            Answer::Closed,
            Answer::status(503),
            events(&[&planned(1), STARTED, &chunk(0), &chunk(1)]),
            events(&[
                &planned(2),
                &chunk(0),
                &chunk(1),
                &chunk(2),
                r#"{"type":"done","pictures":27}"#,
            ]),
        ]);

        let (told, ended) = followed(&fake);

        let expected = [
            "queued",
            "planned 1",
            "started",
            "chunk_committed 0",
            "warning",
            "chunk_committed 1",
            "warning",
            "planned 2",
            "chunk_committed 2",
        ];
        assert_eq!(told, expected);
        assert_eq!(ended.unwrap(), 27);
    }

    #[test]
    fn video_that_is_gone_or_failed_is_a_failure_and_not_asked_for_again() {
        let failed = r#"{"type":"failed","error":{"code":"failed","message":"no room"}}"#;
        for (answer, expected) in [
            (Answer::status(404), "the server has no video v any more"),
            (events(&[failed]), "the server could not make it: no room"),
            (events(&[r#"{"type":"cancelled"}"#]), "the video was deleted on the server"),
        ] {
            let fake = Fake::start(vec![events(&[&chunk(0)]), answer]);

            let (_, ended) = followed(&fake);

            let failure = ended.unwrap_err();
            assert_eq!((failure.line().as_str(), failure.exit_code()), (expected, 1));
        }
    }

    #[test]
    fn silent_server_does_not_hold_up_who_wants_to_stop() {
        let fake = Fake::start(vec![Answer::Silent]);
        let (server, interrupt) = (fake.server(), Interrupt::deaf());
        interrupt.ask();

        let ended = follow(&making(&server, &interrupt, &|_| ()));

        assert!(matches!(ended, Err(Failure::Interrupted(_))), "{ended:?}");
    }

    #[test]
    fn no_damaged_event_makes_the_reader_panic() {
        let failed = r#"{"type":"failed","error":{"code":"failed","message":"no room"}}"#;
        let done = r#"{"type":"done","pictures":27}"#;
        let [chunk, planned] = [chunk(7), planned(2)];
        let seeds = [QUEUED, STARTED, &chunk, &planned, failed, done]
            .map(|event| format!("data: {event}\n\n").into_bytes());
        let (mut mutator, mut seen, mut read) = (Mutator::new(1), Seen::default(), 0);
        for _ in 0..5000 {
            let answer = mutator.case(Shape::Bytes, &seeds, 1 << 16);
            let mut lines = &answer[..];
            while let Ok(Some(line)) = line(&mut lines) {
                let Some(event) = event(&line) else { continue };
                read += 1;
                seen.is_new(&event);
                drop(ending(&event));
            }
        }
        assert!(500 < read, "{read} events are read");
    }

    #[test]
    fn line_without_end_is_refused() {
        let mut endless = BufReader::new(io::repeat(b'x'));

        assert_eq!(line(&mut endless).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(line(&mut &b"data: cut o"[..]).unwrap(), None);
    }
}
