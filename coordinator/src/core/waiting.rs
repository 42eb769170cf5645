//! Whoever follows a video that waits hears of its place, when it has changed.
//!
//! A place in the queue changes for all behind it at once, so it is looked at once a
//! second at most, and told of those videos only that someone follows.

use std::time::Duration;

use api::Happening;
use plan::cluster::Standing;
use tokio::sync::watch;
use types::JobId;

use super::Core;

/// Between two looks at the queue.
const EVERY: Duration = Duration::from_secs(1);

/// When the queue is looked at.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// A job was placed, or ended, or came, or someone follows one.
    are_changed: bool,
    looked_at: Option<Duration>,
}

impl Places {
    pub(super) fn handle_changed(&mut self) {
        self.are_changed = true;
    }

    /// When to look, since the core began.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = self.looked_at.map_or(Duration::ZERO, |looked_at| looked_at + EVERY);
        self.are_changed.then_some(due)
    }
}

impl Core {
    /// Everything that happens to a video, its place in the queue too.
    pub(crate) fn follow(&mut self, job: JobId) -> Option<watch::Receiver<Vec<Happening>>> {
        self.places.handle_changed();
        self.films.get(&job).map(|film| film.history.subscribe())
    }

    /// Where a video stands, if it waits.
    pub(super) fn standing(&mut self, job: JobId) -> Option<Standing> {
        if !self.cluster.stands(&self.line) {
            self.line = self.cluster.line();
        }
        self.line.standing(job)
    }

    /// The queue may be due.
    pub(super) fn places_timeout(&mut self) {
        let now = self.now();
        if self.places.due().is_none_or(|due| now < due) {
            return;
        }
        self.places = Places { are_changed: false, looked_at: Some(now) };
        let mut moved = Vec::new();
        for (position, job) in (0..).zip(self.cluster.queue()) {
            let film = self.films.get(&job).filter(|film| film.is_followed());
            if film.is_some_and(|film| film.told_position != Some(position)) {
                moved.push((job, position));
            }
        }
        for (job, position) in moved {
            let starts_at = self.video(job).and_then(|video| video.estimated_start_at);
            self.tell_place(job, position, starts_at);
        }
    }

    pub(super) fn tell_place(
        &mut self,
        job: JobId,
        position: u32,
        estimated_start_at: Option<u64>,
    ) {
        let Some(film) = self.films.get_mut(&job) else { return };
        film.told_position = Some(position);
        film.happen(Happening::Queued { position, estimated_start_at });
    }
}
