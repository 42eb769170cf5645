//! What a client sends to the HTTP door: bodies, queries, headers.
//!
//! Requests go through the whole router, over a service that has one video.

use std::{
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use api::{
    Access, Cluster, EventId, Events, List, Live, Model, NewVideo, Page, Pictures, Plan, PlanWish,
    Refusal, Service, Size, Status, Thumbnail, Video, VideoId, Written, router,
};
use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, StatusCode, Uri},
};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{Target, mutate::Shape};

/// A JSON body that asks for a video.
pub(crate) const JSON: Target = Target {
    name: "json",
    shape: Shape::Bytes,
    decode: |bytes| ask("application/json", bytes),
    seeds: || {
        let whole = br#"{"prompt": "a \u00e4 ball", "model": "house/mini", "seconds": "12.5",
            "size": "128x80", "seed": 18446744073709551615, "fps": 8, "priority": -3,
            "user": "me", "prompt_schedule": [{"at_seconds": 4, "prompt": "then it rains"}]}"#;
        vec![whole.to_vec(), br#"{"prompt":"a","lora":null}"#.to_vec()]
    },
    input_bytes_max: 1 << 20,
    held_bytes: 128 << 10,
    held_per_byte: 24,
    cases: 12_000,
};

/// A form that asks for a video, whose parts are divided by `b`.
pub(crate) const FORM: Target = Target {
    name: "form",
    shape: Shape::Bytes,
    decode: |bytes| ask("multipart/form-data; boundary=b", bytes),
    seeds: || {
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let schedule = r#"[{"at_seconds": 4, "prompt": "then it rains"}]"#;
        let whole = [part("prompt", "a ball"), part("seconds", "9"), part("size", "64x64")];
        let scheduled = [part("prompt", "a ball"), part("prompt_schedule", schedule)];
        [whole.concat(), scheduled.concat()].map(|form| format!("{form}--b--\r\n").into()).into()
    },
    input_bytes_max: 1 << 20,
    held_bytes: 128 << 10,
    held_per_byte: 24,
    cases: 12_000,
};

/// A request's target: path, query, cursors.
pub(crate) const QUERY: Target = Target {
    name: "query",
    shape: Shape::Bytes,
    decode: |bytes| {
        let uri: Uri = bytes.try_into().map_err(|error| format!("no target: {error}"))?;
        answered(Request::get(uri).body(Body::empty()).map_err(|error| error.to_string())?)
    },
    seeds: || {
        let id = ID;
        let targets = [
            format!("/v1/videos?after={id}&limit=7&order=asc"),
            format!("/v1/videos/{id}"),
            format!("/v1/videos/{id}/content?variant=thumbnail"),
            format!("/v1/videos/{id}/content?variant=pictures"),
            "/v1/models/house%2Fmini".to_owned(),
            "/v1/plan?model=mini&size=128x80&seconds=60&jobs=2".to_owned(),
        ];
        targets.map(String::into_bytes).into()
    },
    // A larger target is refused by the server.
    input_bytes_max: 64 << 10,
    held_bytes: 128 << 10,
    held_per_byte: 16,
    cases: 8_000,
};

/// A header, by the first byte: which part of a file, where a client was, its key.
pub(crate) const HEADERS: Target = Target {
    name: "headers",
    shape: Shape::Bytes,
    decode: headers,
    seeds: || {
        let etag = format!("\"{ID}-{FILE_BYTES}\"");
        let values = [
            (0, "bytes=2-5".to_owned()),
            (0, "bytes=-4".to_owned()),
            (1, etag.clone()),
            (2, etag),
            (3, "4".to_owned()),
            (4, "Bearer key".to_owned()),
            (5, "http://localhost:7842".to_owned()),
            (6, "application/json; charset=utf-8".to_owned()),
            (7, "localhost:7842".to_owned()),
        ];
        let seed = |(which, value): (u8, String)| [&[which], value.as_bytes()].concat();
        values.map(seed).into()
    },
    input_bytes_max: 16 << 10,
    held_bytes: 128 << 10,
    held_per_byte: 8,
    cases: 4_000,
};

/// The one video, and the length of its file.
const ID: VideoId = VideoId(0x0102);
const FILE_BYTES: usize = 1000;

const HEADER_NAMES: [&str; 8] = [
    "range",
    "if-none-match",
    "if-range",
    "last-event-id",
    "authorization",
    "origin",
    "content-type",
    "host",
];

fn ask(content_type: &'static str, body: &[u8]) -> Result<(), String> {
    let request = Request::post("/v1/videos").header("content-type", content_type);
    answered(request.body(Body::from(body.to_vec())).map_err(|error| error.to_string())?)
}

fn headers(bytes: &[u8]) -> Result<(), String> {
    let (&which, value) = bytes.split_first().ok_or("it is empty")?;
    let name = HEADER_NAMES[usize::from(which) % HEADER_NAMES.len()];
    let request = match name {
        "content-type" => Request::post("/v1/videos"),
        "last-event-id" => Request::get(format!("/v1/videos/{ID}/events")),
        _ => Request::get(format!("/v1/videos/{ID}/content")),
    };
    let request = match name {
        "if-range" => request.header("range", "bytes=2-"),
        "origin" => request.header("host", "localhost:7842"),
        _ => request,
    };
    let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
    let request = request.header(HeaderName::from_static(name), value);
    answered(request.body(Body::from(r#"{"prompt":"a"}"#)).map_err(|error| error.to_string())?)
}

/// Answers a request; one that is not a success is refused by an error with words.
fn answered(request: Request<Body>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let answer = door().clone().oneshot(request).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        assert_ne!(head.status, StatusCode::INTERNAL_SERVER_ERROR, "{body:?}");
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let error: serde_json::Value = serde_json::from_slice(&body).expect("an error is JSON");
        let words = error["error"]["message"].as_str().expect("an error has words");
        Err(words.to_owned())
    })
}

fn door() -> &'static Router {
    static DOOR: OnceLock<Router> = OnceLock::new();
    DOOR.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder for tests");
        std::fs::write(folder.path().join("video.mp4"), [7; FILE_BYTES]).expect("a small file");
        router(Arc::new(House { folder }), Access::Loopback)
    })
}

/// A service with one video.
struct House {
    folder: TempDir,
}

impl House {
    fn check(id: VideoId) -> Result<(), Refusal> {
        if id == ID { Ok(()) } else { Err(Refusal::NotFound { message: "no such video".into() }) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("video.mp4")
    }
}

#[async_trait]
impl Service for House {
    async fn create(&self, new: NewVideo) -> Result<Video, Refusal> {
        assert!(new.prompt.chars().count() <= NewVideo::PROMPT_CHARS_MAX);
        assert!(new.prompt_schedule.iter().flatten().count() <= NewVideo::SCHEDULE_MAX);
        assert!(new.seconds.is_none_or(|seconds| (0.0..=NewVideo::SECONDS_MAX).contains(&seconds)));
        Ok(video(new))
    }

    async fn video(&self, id: VideoId) -> Result<Video, Refusal> {
        Self::check(id)?;
        Ok(video(NewVideo::default()))
    }

    async fn list(&self, page: Page) -> Result<List, Refusal> {
        assert!((1..=Page::LIMIT_MAX).contains(&page.limit));
        page.after.map_or(Ok(()), Self::check)?;
        Ok(List { videos: vec![video(NewVideo::default())], has_more: false })
    }

    async fn delete(&self, id: VideoId) -> Result<(), Refusal> {
        Self::check(id)
    }

    async fn events(&self, id: VideoId, _after: Option<EventId>) -> Result<Events, Refusal> {
        Self::check(id)?;
        Ok(stream::empty().boxed())
    }

    async fn file(&self, id: VideoId) -> Result<PathBuf, Refusal> {
        Self::check(id)?;
        Ok(self.path())
    }

    async fn thumbnail(&self, id: VideoId) -> Result<Thumbnail, Refusal> {
        Self::check(id)?;
        Ok(Thumbnail { media_type: "image/png", bytes: vec![7; 9].into() })
    }

    async fn pictures(&self, id: VideoId) -> Result<Pictures, Refusal> {
        Self::check(id)?;
        Ok(stream::empty().boxed())
    }

    async fn live(&self, id: VideoId) -> Result<Live, Refusal> {
        Self::check(id)?;
        let written = Written { bytes: FILE_BYTES as u64, finished: true };
        Ok(Live { path: self.path(), written: watch::channel(written).1 })
    }

    async fn models(&self) -> Result<Vec<Model>, Refusal> {
        let (id, owned_by) = ("house/mini".to_owned(), "house".to_owned());
        let size = Size { width: 128, height: 80 };
        Ok(vec![Model { id, created: 0, owned_by, size, fps: 8 }])
    }

    async fn cluster(&self) -> Result<Cluster, Refusal> {
        Ok(Cluster::default())
    }

    async fn plan(&self, wish: PlanWish) -> Result<Plan, Refusal> {
        assert!(
            wish.seconds.is_none_or(|seconds| (0.0..=NewVideo::SECONDS_MAX).contains(&seconds))
        );
        Ok(plan(wish))
    }

    async fn readiness(&self) -> Result<(), String> {
        Ok(())
    }

    async fn metrics(&self) -> String {
        String::new()
    }
}

/// One that nobody takes part in.
fn plan(wish: PlanWish) -> Plan {
    let size = Size { width: 128, height: 80 };
    let jobs = wish.jobs.map_or(1, NonZeroU32::get);
    Plan {
        model: wish.model.unwrap_or_default(),
        size: wish.size.unwrap_or(size),
        measured_size: size,
        fps: 8,
        seconds: wish.seconds.unwrap_or(1.0),
        pictures: 8,
        chunks: 1,
        jobs,
        jobs_at_once: jobs,
        jobs_max: jobs,
        stands: true,
        workers: Vec::new(),
        hops: Vec::new(),
        left_out: Vec::new(),
        chunk_seconds: 1.0,
        seconds_per_chunk: 1.0,
        pictures_per_second: 8.0,
        first_chunk_seconds: 1.0,
        video_seconds: 1.0,
        videos_seconds: 1.0,
        bottleneck: String::new(),
        verdict: String::new(),
        use_one_node: true,
        one_node: None,
        gain: None,
        measured: None,
    }
}

fn video(new: NewVideo) -> Video {
    Video {
        id: ID,
        model: new.model.unwrap_or_default(),
        prompt: new.prompt,
        status: Status::Completed,
        progress: 100,
        created_at: 0,
        started_at: None,
        completed_at: None,
        expires_at: None,
        size: new.size.unwrap_or(Size { width: 128, height: 80 }),
        seconds: new.seconds.unwrap_or(1.0),
        seed: new.seed.unwrap_or(0),
        fps: new.fps.unwrap_or(8),
        error: None,
        queue_position: None,
        estimated_start_at: None,
        estimated_completion_at: None,
        pictures: 8,
        stage_timings: Vec::new(),
    }
}
