//! Videos that a coordinator before this one had.
//!
//! Every record is listed, whatever is served now. A video of another model, or of a
//! size that the one which is served does not make, plays and can be deleted; none of
//! its chunks is decoded by a decoder that is not its own. If it was not finished it
//! ends here, and its log stays until it is deleted.

use api::{Happening, Refusal, VideoError};
use plan::{
    cluster::Progress,
    length::{Length, Rate},
    memory::Size,
};
use types::{Epoch, JobId, ModelDigest};

use super::{Core, Film, Wish, unix_now};
use crate::{
    model::{Order, Served},
    records::{self, Status},
};

/// Where the chunk log is with a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logged {
    pub(crate) epoch: Epoch,
    /// Chunks in it.
    pub(crate) committed: u32,
    /// What has made them.
    pub(crate) model: ModelDigest,
    /// Bytes of each.
    pub(crate) chunk_bytes: u64,
}

/// Pictures and chunks of a video that no model makes.
const NOTHING: Length =
    Length { pictures: 0, needed_frames: 0, chunks: 0, frames: 0, surplus_pictures: 0 };

impl Core {
    /// A video that a coordinator before this one had. A store that knows of lower epochs
    /// than the log has lost something: the log's are the ones to go on from.
    ///
    /// # Errors
    ///
    /// [`Refusal::Internal`] if the model that is served is not whole.
    pub(crate) fn restore(
        &mut self,
        job: JobId,
        record: records::Job,
        logged: Option<&Logged>,
    ) -> Result<(), Refusal> {
        let model = model(&record, &self.served, logged)?;
        let wish = wish(job, &record, &model);
        let is_served = model.digest == self.served.digest.to_string();
        let may_be_made = is_served && wish.order.length != NOTHING;
        let needs = may_be_made.then(|| wish.needs(&self.served)).transpose();
        let (needs, refusal) = needs.map_or_else(|error| (None, Some(error)), |ok| (ok, None));
        let (shapes, spec) = needs.unzip();
        let mut film = Film::new(wish, model, shapes, &self.videos);
        if let (None, Some(logged)) = (shapes, logged) {
            film.chunk_bytes = logged.chunk_bytes;
        }
        let committed = logged.map_or(0, |logged| logged.committed);
        film.status = record.status;
        film.epoch = record.epoch.max(logged.map_or(0, |logged| logged.epoch.0));
        (film.started_at, film.completed_at) = (record.started_at, record.completed_at);
        film.error = record.error;
        match (record.status, spec) {
            (Status::Completed, _) => {
                film.pictures = film.wish.order.length.pictures;
                film.bytes = std::fs::metadata(film.path()).map_or(0, |file| file.len());
                film.happen(Happening::Done { pictures: film.pictures });
            }
            (Status::Failed, _) => film.fail_again(committed),
            (Status::Queued | Status::InProgress, Some(spec)) => {
                let committed = committed.min(spec.chunks);
                let progress = Progress { epoch: Epoch(film.epoch), committed, published: 0 };
                self.cluster.restore(job, spec, progress);
            }
            (Status::Queued | Status::InProgress, None) => {
                let why = refusal.map(|refusal| refusal.to_string());
                let why = why.unwrap_or_else(|| self.stranger(&film));
                self.end_left(&mut film, format!("it was not finished: {why}"), committed);
            }
        }
        self.films.insert(job, film);
        Ok(())
    }

    /// Why nothing is made of a video here, and what to do.
    pub(super) fn stranger(&self, film: &Film) -> String {
        let Ok(served) = self.served.recorded() else {
            return "the model that is served is not whole".to_owned();
        };
        if served.digest == film.model.digest {
            return format!("model {served}, as it is served, makes no such video");
        }
        let made = &film.model;
        format!(
            "the video is of model {made}, and {served} is served: start the server with the first \
             one (`serve --model`), or ask for a new video"
        )
    }

    /// Ends a video that was begun before and cannot be gone on with here.
    fn end_left(&self, film: &mut Film, problem: String, committed: u32) {
        let job = film.wish.job;
        tracing::warn!(%job, %problem, "a video is not gone on with");
        (film.status, film.error) = (Status::Failed, Some(problem));
        film.completed_at = Some(unix_now());
        if let Err(problem) = film.remove_left() {
            tracing::warn!(%job, %problem, "a video was not removed");
        }
        film.fail_again(committed);
        self.saver.save(records::job_key(job), &film.record());
    }
}

impl Film {
    /// Tells that it failed, with so many chunks in the log.
    fn fail_again(&mut self, committed: u32) {
        self.told_chunks = committed;
        let message = self.error.clone().unwrap_or_default();
        let error = VideoError { code: "failed".to_owned(), message };
        self.happen(Happening::Failed { error });
    }
}

/// The model that a record's job is of. Where the record does not say the log does, and
/// where there is none it is the one that is served.
fn model(
    record: &records::Job,
    served: &Served,
    logged: Option<&Logged>,
) -> Result<records::Model, Refusal> {
    if let Some(model) = &record.model {
        return Ok(model.clone());
    }
    let mut model = served.recorded()?;
    if let Some(other) = logged.map(|logged| logged.model).filter(|&made| made != served.digest) {
        (model.name, model.digest) = ("unknown".to_owned(), other.to_string());
    }
    Ok(model)
}

/// The wish that a record holds.
fn wish(job: JobId, record: &records::Job, model: &records::Model) -> Wish {
    let records::Model { fps, pictures_per_frame, chunk_frames, .. } = *model;
    let length = Rate { fps, pictures_per_frame, chunk_frames }.length(record.seconds);
    let order = Order {
        prompts: record.prompts.clone(),
        size: Size { width: record.width, height: record.height },
        seconds: record.seconds,
        length: length.unwrap_or(NOTHING),
    };
    Wish {
        job,
        order,
        seed: record.seed,
        priority: record.priority,
        user: record.user.clone(),
        created_at: record.created_at,
        is_probe: false,
    }
}
