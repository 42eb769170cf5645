//! A video that a server makes, and the patience that takes.
//!
//! A coordinator that is restarted is away for a while and then goes on with its
//! videos, so whoever waits for one asks again: soon at first, then every five
//! seconds, until nothing has been heard for two minutes.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    download::{Download, TICK},
    server::{Refusal, Server},
};
use crate::{failure::Failure, interrupt::Interrupt};

/// How long a server may be away.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Between the first two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Between any two attempts, at most.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A video that a server makes.
pub(super) struct Making<'a> {
    pub(super) server: &'a Server,
    pub(super) id: &'a str,
    /// Where its pictures are, behind its path.
    pub(super) content: &'static str,
    pub(super) interrupt: &'a Interrupt,
    /// Is told every event.
    pub(super) tell: &'a dyn Fn(&Value),
}

/// When a silent server is asked again.
pub(super) struct Patience {
    /// When the server was heard last.
    heard: Instant,
    pause: Duration,
    /// Whether the user knows that the server is away.
    is_told: bool,
}

impl Making<'_> {
    /// Opens something of the video, once its server is there.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the server stays away, refuses or has no such video; interrupted,
    /// if the user asked to stop.
    pub(super) fn open(
        &self,
        part: &str,
        silence: Duration,
        patience: &mut Patience,
    ) -> Result<Download, Failure> {
        loop {
            match Download::open(self.server, &self.path(part), silence, self.interrupt) {
                Ok(download) => return Ok(download),
                Err(Refusal::Passing(failure)) => self.wait(patience, &failure.line())?,
                Err(Refusal::Unknown(_)) => {
                    let id = self.id;
                    return Err(Failure::Machine(format!("the server has no video {id} any more")));
                }
                Err(Refusal::Final(failure @ Failure::Interrupted(_))) => return Err(failure),
                Err(Refusal::Final(failure)) => return Err(failure.with(&self.advice())),
            }
        }
    }

    /// Waits until the server is worth asking again.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it was away for too long, or if the user asked to stop.
    pub(super) fn wait(&self, patience: &mut Patience, problem: &str) -> Result<(), Failure> {
        let Some(pause) = patience.pause(Instant::now()) else {
            let seconds = AWAY_MAX.as_secs();
            let message = format!("nothing was heard of the server for {seconds} s: {problem}");
            return Err(Failure::Machine(message).with(&self.advice()));
        };
        if !patience.is_told {
            let message = format!("{problem}; asking again");
            (self.tell)(&json!({ "type": "warning", "message": message }));
            patience.is_told = true;
        }
        let until = Instant::now() + pause;
        loop {
            if self.interrupt.asked() {
                return Err(Failure::Interrupted("nothing was written".to_owned()));
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::sleep(left.min(TICK)),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Deletes it on the server.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it may still be there.
    pub(super) fn delete(&self) -> Result<(), Failure> {
        match self.server.delete(&self.path("")) {
            Ok(()) | Err(Refusal::Unknown(_)) => Ok(()),
            Err(refusal @ (Refusal::Passing(_) | Refusal::Final(_))) => Err(refusal.into()),
        }
    }

    /// What to do if the video is made, and not here.
    pub(super) fn advice(&self) -> String {
        let url = self.server.url(&self.path(self.content));
        format!("; the video is made there all the same: fetch it with GET {url}")
    }

    /// The path of something of the video.
    pub(super) fn path(&self, part: &str) -> String {
        format!("/v1/videos/{}{part}", self.id)
    }
}

impl Patience {
    /// The server was heard just now.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, pause: PAUSE_MIN, is_told: false }
    }

    /// The server says something.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The server says something new: it is back.
    pub(super) fn handle_news(&mut self) {
        self.pause = PAUSE_MIN;
        self.is_told = false;
    }

    /// The pause before the next attempt; nothing if the server is given up.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        if AWAY_MAX <= now.saturating_duration_since(self.heard) {
            return None;
        }
        let pause = self.pause;
        self.pause = (2 * pause).min(PAUSE_MAX);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_until_nothing_was_heard_for_two_minutes() {
        let mut now = Instant::now();
        let (begun, mut patience) = (now, Patience::new(now));
        let mut pauses = Vec::new();
        while let Some(pause) = patience.pause(now) {
            pauses.push(pause.as_millis());
            now += pause;
        }

        assert_eq!(pauses[..6], [250, 500, 1000, 2000, 4000, 5000]);
        let gave_up = now - begun;
        assert!((AWAY_MAX..AWAY_MAX + PAUSE_MAX).contains(&gave_up), "{gave_up:?}");
        patience.handle_heard(now);
        assert_eq!(patience.pause(now), Some(PAUSE_MAX));
        patience.handle_news();
        assert_eq!(patience.pause(now), Some(PAUSE_MIN));
    }
}
