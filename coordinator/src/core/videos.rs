//! Videos that are asked for, not wanted any more, or looked at again.

use std::time::Duration;

use api::{Refusal, Video};
use bytes::Bytes;
use plan::cluster::JobSpec;
use proto::control::wire::{Close, to_worker::Kind as Asked};
use tokio::sync::mpsc;
use types::{Epoch, Fence, JobId, NodeId};

use super::{Core, Event, Film, random};
use crate::{pictures::Viewing, records::Status};

/// A finished video that is decoded again for someone.
#[derive(Debug)]
pub(super) struct Showing {
    job: JobId,
    decoder: NodeId,
    next: u32,
    chunks: u32,
    sender: mpsc::Sender<Result<Bytes, String>>,
}

/// Videos that may be decoded again at once: no plan counts their decoders' memory.
const SHOWINGS_MAX: usize = 2;
/// How long whoever asked may leave a chunk's pictures.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// When to come back if nothing is being made that would end. Chosen.
const RETRY_SECONDS: f64 = 10.0;

/// Videos that have ended and are listed: each costs memory, whatever it keeps on the
/// disk. Chosen.
const ENDED_MAX: usize = 100_000;

impl Core {
    /// Whether another video may be asked for.
    pub(crate) fn room(&self) -> Result<(), Refusal> {
        self.staffed()?;
        let waiting = self.cluster.waiting();
        if waiting < self.cluster.policy().queue_max {
            return Ok(());
        }
        let estimate = self.next_place_seconds();
        let seconds = estimate.unwrap_or(RETRY_SECONDS);
        let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs() + 1;
        let when = match estimate {
            Some(_) => format!("there is room for another one in about {seconds} s"),
            None => "none is being made now, so nobody can say when there is room".to_owned(),
        };
        Err(Refusal::TooManyRequests {
            message: format!("{waiting} videos wait already: {when}"),
            retry_after_seconds: seconds,
        })
    }

    /// Seconds until the first of the videos that take turns is made, and one that waits
    /// begins.
    fn next_place_seconds(&self) -> Option<f64> {
        let prediction = &self.cluster.pipeline().plan()?.prediction;
        let films = self.films.values().filter(|film| film.status == Status::InProgress);
        let left = films.filter_map(|film| Some(self.cluster.job(film.wish.job)?.chunks_left()));
        let turns = u32::try_from(self.cluster.placed()).unwrap_or(u32::MAX);
        Some(f64::from(left.min()?) * f64::from(turns) * prediction.seconds_per_chunk)
    }

    /// Takes a video that is written down.
    pub(crate) fn create(&mut self, film: Film, spec: JobSpec) -> Result<Video, Refusal> {
        let (job, now) = (film.wish.job, self.now());
        if let Err(refusal) = self.room() {
            // The places went to others while it was written down, or workers went.
            self.erase(job, film);
            return Err(refusal);
        }
        self.films.insert(job, film);
        if let Err(full) = self.cluster.handle_created(now, job, spec) {
            if let Some(film) = self.films.remove(&job) {
                self.erase(job, film);
            }
            let message = full.to_string();
            return Err(Refusal::TooManyRequests { message, retry_after_seconds: 1 });
        }
        let gone = || Refusal::Internal { detail: "the video vanished".to_owned() };
        let video = self.video(job).ok_or_else(gone)?;
        // One that begins at once was first in the queue.
        let position = video.queue_position.unwrap_or(0);
        self.tell_place(job, position, video.estimated_start_at);
        Ok(video)
    }

    /// Ends a video, or forgets one that has ended, once every stage has closed it. Gives
    /// whether there is one.
    pub(crate) fn cancel(&mut self, job: JobId) -> bool {
        let Some(film) = self.films.get_mut(&job) else { return false };
        match film.status {
            Status::Queued | Status::InProgress => {
                let now = self.now();
                self.cluster.handle_cancelled(now, job);
            }
            Status::Completed | Status::Failed => {
                film.is_unwanted = true;
                self.drop_unwanted(job);
            }
        }
        true
    }

    /// Deletes a video that has ended and is not wanted, if no worker holds anything of it.
    pub(super) fn drop_unwanted(&mut self, job: JobId) {
        let is_unwanted = self.films.get(&job).is_some_and(|film| film.is_unwanted);
        if !is_unwanted || self.cluster.is_placed(job) {
            return;
        }
        if let Some(film) = self.films.remove(&job) {
            self.cluster.forget(job);
            self.erase(job, film);
        }
    }

    /// Deletes the videos that were finished first, or failed, until the rest is within the
    /// caps; `newest` stays.
    pub(super) fn make_room(&mut self, newest: JobId) {
        let ended = self.films.values().filter(|film| film.completed_at.is_some());
        let mut ended: Vec<_> = ended
            .map(|film| (film.completed_at, film.wish.created_at, film.wish.job, film.kept_bytes()))
            .filter(|&(_, _, job, _)| job != newest)
            .collect();
        ended.sort_unstable();
        let own = self.films.get(&newest).map_or(0, Film::kept_bytes);
        let bytes: Vec<u64> = ended.iter().map(|&(.., bytes)| bytes).chain([own]).collect();
        for &(.., job, bytes) in &ended[..excess(&bytes, self.videos_bytes_max, ENDED_MAX)] {
            tracing::info!(%job, bytes, "a finished video makes room for newer ones");
            self.cancel(job);
        }
    }

    /// Decodes a finished video again.
    pub(crate) fn view(&mut self, job: JobId) -> Result<Viewing, Refusal> {
        let away = |message: &str| Refusal::Unavailable { message: message.to_owned() };
        let film = self.films.get(&job).ok_or_else(|| away("the video is gone"))?;
        if film.shapes.is_none() {
            let message = format!("its pictures cannot be decoded again: {}", self.stranger(film));
            return Err(Refusal::OtherModel { message });
        }
        let order = &film.wish.order;
        let (size, pictures) = (order.size, order.length.pictures);
        let video_chunks = order.length.chunks;
        let decoder =
            self.cluster.pipeline().decoder().filter(|&node| self.session(node).is_some());
        let decoder = decoder.ok_or_else(|| away("no worker is there to decode it"))?;
        let left = self.showings.iter().filter(|(_, showing)| showing.sender.is_closed());
        let left: Vec<JobId> = left.map(|(&id, _)| id).collect();
        left.into_iter().for_each(|id| self.drop_showing(id));
        if SHOWINGS_MAX <= self.showings.len() {
            return Err(away("too many videos are being decoded again: come back later"));
        }
        let (sender, chunks) = mpsc::channel(2);
        let viewing = Viewing { size, pictures, chunks };
        let showing = Showing { job, decoder, next: 0, chunks: video_chunks, sender };
        let id = JobId(random());
        self.showings.insert(id, showing);
        self.show_next(id);
        Ok(viewing)
    }

    /// Sends the next chunk of a showing to the decoder.
    fn show_next(&mut self, id: JobId) {
        let Some(showing) = self.showings.get_mut(&id) else { return };
        let (node, job, chunk) = (showing.decoder, showing.job, showing.next);
        let fence = Fence { job: id, epoch: Epoch(0) };
        if chunk == showing.chunks || showing.sender.is_closed() {
            return self.drop_showing(id);
        }
        showing.next += 1;
        let handle = self.handle.clone();
        let asked = self.log.read(job, chunk, move |result| {
            handle.tell_blocking(Event::Read(node, fence, chunk, result));
        });
        if let Err(busy) = asked {
            self.end_showing(id, &busy.to_string());
        }
    }

    /// The video that a showing is of.
    pub(super) fn shown(&self, id: JobId) -> JobId {
        self.showings.get(&id).map_or(id, |showing| showing.job)
    }

    /// A chunk's pictures came for a showing. Gives whether they were for one.
    pub(super) fn show(&mut self, id: JobId, rgb: &Bytes) -> bool {
        let Some(showing) = self.showings.get(&id) else { return false };
        let (sender, rgb, handle) = (showing.sender.clone(), rgb.clone(), self.handle.clone());
        // The next chunk is decoded once this one is taken.
        tokio::spawn(async move {
            if tokio::time::timeout(SHOWN_WITHIN, sender.send(Ok(rgb))).await.is_err() {
                let end = move |core: &mut Core| {
                    core.end_showing(id, "nobody reads it");
                };
                return handle.tell(Event::Ask(Box::new(end))).await;
            }
            handle.tell(Event::Ask(Box::new(move |core| core.show_next(id)))).await;
        });
        true
    }

    /// Ends a showing that cannot go on.
    pub(super) fn end_showing(&mut self, id: JobId, problem: &str) -> bool {
        let Some(showing) = self.showings.get(&id) else { return false };
        drop(showing.sender.try_send(Err(problem.to_owned())));
        self.drop_showing(id);
        true
    }

    /// Ends the showings of a decoder that is not there any more.
    pub(super) fn end_showings_of(&mut self, node: NodeId) {
        let shown = self.showings.iter().filter(|(_, showing)| showing.decoder == node);
        let shown: Vec<JobId> = shown.map(|(&id, _)| id).collect();
        for id in shown {
            self.end_showing(id, "the worker that decoded it was lost: ask again");
        }
    }

    /// Forgets a showing here and at its decoder.
    fn drop_showing(&mut self, id: JobId) {
        let Some(showing) = self.showings.remove(&id) else { return };
        let fence = Some(Fence { job: id, epoch: Epoch(0) }.into());
        self.tell(showing.decoder, Asked::Close(Close { fence }));
    }
}

/// How many of the first videos go until the rest is within the caps; the last one stays.
fn excess(bytes: &[u64], bytes_max: u64, count_max: usize) -> usize {
    let (mut gone, mut total) = (0, bytes.iter().sum::<u64>());
    while gone + 1 < bytes.len() && (bytes_max < total || count_max < bytes.len() - gone) {
        total -= bytes[gone];
        gone += 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_videos_go_until_bytes_and_number_are_within_their_caps() {
        assert_eq!(excess(&[5, 1, 5], 11, 3), 0);
        assert_eq!(excess(&[5, 1, 5], 10, 3), 1);
        assert_eq!(excess(&[5, 1, 5], 11, 1), 2);
        assert_eq!(excess(&[5, 1, 5], 0, 0), 2, "the last one stays");
        assert_eq!(excess(&[7], 0, 0), 0);
    }
}
