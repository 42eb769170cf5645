//! The core as the HTTP door needs it.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use api::{
    Cluster, EventId, Events, Happening, List, Live, Model, NewVideo, Order as Ascent, Page,
    Pictures, Plan, PlanWish, Refusal, Service, Size, Thumbnail, Video, VideoEvent, VideoId,
    Written,
};
use async_trait::async_trait;
use futures_util::stream;
use tokio::sync::watch;
use types::JobId;

use crate::{
    core::{
        Core, Film, Handle, Wish,
        forecast::{self, Foresight},
        random, unix_now,
    },
    model::Served,
    records::{self, Status},
    saver::Saver,
};

/// How long a cancelled video may take to stop everywhere.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The service behind the door.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) handle: Handle,
    pub(crate) served: Arc<Served>,
    pub(crate) saver: Saver,
    pub(crate) videos: PathBuf,
    /// The number of the coordinator's life.
    pub(crate) life: u64,
    pub(crate) begun_at: u64,
    /// Videos that are made at once.
    pub(crate) jobs_max: NonZeroU32,
    pub(crate) foresight: Foresight,
}

impl Door {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let stops = || Refusal::Unavailable { message: "the server stops".to_owned() };
        self.handle.ask(question).await.ok_or_else(stops)
    }

    /// Asks about a film that is there.
    async fn film<T: Send + 'static>(
        &self,
        id: VideoId,
        question: impl FnOnce(&Film) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let found = self.ask(move |core| core.films.get(&JobId(id.0)).map(question)).await?;
        found.ok_or_else(|| unknown(id))
    }
}

#[async_trait]
impl Service for Door {
    async fn create(&self, new: NewVideo) -> Result<Video, Refusal> {
        let order = self.served.order(&new)?;
        let job = JobId(random());
        let wish = Wish {
            job,
            order,
            seed: new.seed.unwrap_or_else(seed),
            priority: new.priority.unwrap_or(0),
            user: new.user,
            created_at: unix_now(),
            is_probe: false,
        };
        let (film, spec) = wish.film(&self.served, &self.videos)?;
        self.ask(|core| core.room()).await??;
        let record = serde_json::to_vec(&film.record());
        let record = record.map_err(|error| Refusal::Internal { detail: error.to_string() })?;
        let key = records::job_key(job);
        let put = self.saver.store().put(&key, &record, store::Expect::Any).await;
        if let Err(error) = put {
            // It may have been written all the same.
            self.saver.delete(records::job_key(job));
            let message = format!("the video cannot be written down: {error}");
            return Err(Refusal::Unavailable { message });
        }
        self.ask(move |core| core.create(film, spec)).await?
    }

    async fn video(&self, id: VideoId) -> Result<Video, Refusal> {
        self.ask(move |core| core.video(JobId(id.0))).await?.ok_or_else(|| unknown(id))
    }

    async fn list(&self, page: Page) -> Result<List, Refusal> {
        self.ask(move |core| {
            let mut ids = core.videos();
            if page.order == Ascent::Descending {
                ids.reverse();
            }
            let begin = match page.after {
                None => 0,
                Some(after) => {
                    let place = ids.iter().position(|id| id.0 == after.0);
                    place.map(|place| place + 1).ok_or_else(|| Refusal::InvalidRequest {
                        param: Some("after".to_owned()),
                        message: format!("there is no video {after}"),
                    })?
                }
            };
            let rest = &ids[begin..];
            let shown = &rest[..rest.len().min(page.limit)];
            let videos = shown.iter().filter_map(|&id| core.video(id)).collect();
            Ok(List { videos, has_more: shown.len() < rest.len() })
        })
        .await?
    }

    async fn delete(&self, id: VideoId) -> Result<(), Refusal> {
        // Its history ends when it does.
        let mut history = self.film(id, |film| film.history.subscribe()).await?;
        self.ask(move |core| core.cancel(JobId(id.0))).await?;
        let stopped = async { while history.changed().await.is_ok() {} };
        let late = |_| Refusal::Unavailable {
            message: "the video is being stopped: a worker has not confirmed yet".to_owned(),
        };
        tokio::time::timeout(STOP_TIMEOUT, stopped).await.map_err(late)
    }

    async fn events(&self, id: VideoId, after: Option<EventId>) -> Result<Events, Refusal> {
        let history = self.ask(move |core| core.follow(JobId(id.0))).await?;
        let history = history.ok_or_else(|| unknown(id))?;
        let life = self.life;
        let next = seen(after, life, history.borrow().len());
        Ok(Box::pin(stream::unfold((history, next), move |(mut history, next)| async move {
            loop {
                let found = history.borrow_and_update().get(next).cloned();
                if let Some(what) = found {
                    let id = EventId { life, number: next as u64 + 1 };
                    return Some((VideoEvent { id, what }, (history, next + 1)));
                }
                let is_over = history.borrow().last().is_some_and(Happening::is_last);
                if is_over || history.changed().await.is_err() {
                    return None;
                }
            }
        })))
    }

    async fn file(&self, id: VideoId) -> Result<PathBuf, Refusal> {
        self.film(id, move |film| match film.status {
            Status::Completed => Ok(film.path().to_owned()),
            Status::Queued | Status::InProgress => Err(Refusal::NotReady {
                message: format!(
                    "video {id} is not finished yet: wait until its status is `completed`"
                ),
            }),
            Status::Failed => Err(failed(id, film)),
        })
        .await?
    }

    async fn thumbnail(&self, id: VideoId) -> Result<Thumbnail, Refusal> {
        let (path, pictures) =
            self.film(id, |film| (film.thumbnail_path().to_owned(), film.pictures)).await?;
        let not_yet = || Refusal::NotReady {
            message: format!("video {id} has no picture yet: wait for its first chunk"),
        };
        if pictures == 0 {
            return Err(not_yet());
        }
        let bytes = tokio::fs::read(path).await.map_err(|_| not_yet())?;
        Ok(Thumbnail { media_type: "image/png", bytes: bytes.into() })
    }

    async fn pictures(&self, id: VideoId) -> Result<Pictures, Refusal> {
        self.file(id).await?;
        let viewing = self.ask(move |core| core.view(JobId(id.0))).await??;
        let (size, pictures) = (viewing.size, viewing.pictures);
        let chunks = viewing.chunks;
        Ok(Box::pin(crate::pictures::named(chunks, size, pictures)))
    }

    async fn live(&self, id: VideoId) -> Result<Live, Refusal> {
        self.film(id, move |film| {
            let path = film.live_path();
            let written = match film.status {
                Status::Completed => {
                    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    watch::Sender::new(Written { bytes, finished: true }).subscribe()
                }
                Status::Queued | Status::InProgress => film.written.subscribe(),
                Status::Failed => return Err(failed(id, film)),
            };
            Ok(Live { path, written })
        })
        .await?
    }

    async fn models(&self) -> Result<Vec<Model>, Refusal> {
        let size = self.served.own_size();
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Ok(vec![Model {
            id: self.served.name.clone(),
            created: self.begun_at,
            owned_by: "filmloom".to_owned(),
            size: Size { width: side(size.width), height: side(size.height) },
            fps: self.served.model.video.fps,
        }])
    }

    async fn cluster(&self) -> Result<Cluster, Refusal> {
        self.ask(|core| core.cluster_view()).await
    }

    async fn plan(&self, wish: PlanWish) -> Result<Plan, Refusal> {
        let jobs_max = self.jobs_max;
        let asked = self.served.asked(&wish, jobs_max)?;
        let place = self.foresight.place()?;
        let (snapshot, accuracy) = self.ask(|core| core.snapshot()).await?;
        let planning = move || {
            let forecast = snapshot.forecast(&asked.question);
            forecast.map(|forecast| forecast::shown(&asked, jobs_max.get(), &forecast, accuracy))
        };
        let planned = place.run(planning).await?;
        planned.map_err(|none| Refusal::Unavailable { message: none.to_string() })
    }

    async fn readiness(&self) -> Result<(), String> {
        let problem = self.ask(|core| core.problem()).await.map_err(|error| error.to_string())?;
        problem.map_or(Ok(()), Err)
    }

    async fn metrics(&self) -> String {
        self.ask(|core| crate::metrics::text(core)).await.unwrap_or_default()
    }
}

/// Events that a client has seen of so many that this life tells. What another life has
/// told may have been in another order.
fn seen(after: Option<EventId>, life: u64, told: usize) -> usize {
    let number = after.filter(|after| after.life == life).map_or(0, |after| after.number);
    usize::try_from(number).ok().filter(|&seen| seen <= told).unwrap_or(0)
}

fn unknown(id: VideoId) -> Refusal {
    Refusal::NotFound { message: format!("there is no video {id}") }
}

fn failed(id: VideoId, film: &Film) -> Refusal {
    let why = film.error.as_deref().unwrap_or("it could not be made");
    Refusal::NotReady { message: format!("video {id} failed: {why}") }
}

/// A seed that nobody asked for: what fits into JSON numbers everywhere.
fn seed() -> u64 {
    u64::try_from(random() >> (128 - 32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_event_of_this_life_that_was_told_counts_as_seen() {
        let after = |life, number| Some(EventId { life, number });

        assert_eq!(seen(None, 4, 9), 0);
        assert_eq!([seen(after(4, 0), 4, 9), seen(after(4, 9), 4, 9)], [0, 9]);
        for other in [after(3, 5), after(5, 5), after(0, 5), after(4, 10), after(4, u64::MAX)] {
            assert_eq!(seen(other, 4, 9), 0, "{other:?}");
        }
    }
}
