//! What a video consists of: its file, a picture that stands for it, or all of
//! its pictures; and the file while it grows.
//!
//! The finished file never changes, so its name and length make its `ETag`, and
//! players and downloads may ask for any part of it. Pictures come as a tar
//! archive that is written while it is sent.

use std::io::{self, SeekFrom};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderName, StatusCode, Uri,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
        },
    },
    response::{IntoResponse, Response},
};
use futures_util::{Stream, TryStreamExt};
use tokio::{io::AsyncSeekExt, sync::OwnedSemaphorePermit};

use crate::{
    fields::repeated,
    guard::{held, stream_slot},
    live::tail,
    parts::{open, parts},
    range::{Wanted, wanted},
    refusal::{Problem, Refusal, invalid},
    routes::App,
    service::Thumbnail,
    tar::archive,
    video::VideoId,
    videos::{Id, no_such_parameter, parameters},
};

/// What of a video is wanted.
#[derive(Clone, Copy, Debug)]
enum Variant {
    Video,
    Thumbnail,
    Pictures,
}

pub(crate) async fn content(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    match variant(&uri)? {
        Variant::Video => video(&app, id, &headers).await,
        Variant::Thumbnail => thumbnail(&app, id).await,
        Variant::Pictures => pictures(&app, id).await,
    }
}

/// The file from its beginning, while it grows.
pub(crate) async fn stream(State(app): State<App>, Id(id): Id) -> Result<Response, Problem> {
    let slot = stream_slot(&app.streams)?;
    let live = app.service.live(id).await?;
    let headers =
        [(CONTENT_TYPE, "video/mp4"), (CACHE_CONTROL, "no-store"), (ACCEPT_RANGES, "none")];
    Ok((headers, body(tail(live), slot)).into_response())
}

fn variant(uri: &Uri) -> Result<Variant, Refusal> {
    let mut variant = Variant::Video;
    for (name, value) in parameters(uri)? {
        variant = match (name.as_str(), value.as_str()) {
            ("variant", "video") => Variant::Video,
            ("variant", "thumbnail") => Variant::Thumbnail,
            ("variant", "pictures") => Variant::Pictures,
            ("variant", other) => {
                let shown = repeated(other);
                let message = format!("`variant` is {shown}; give video, thumbnail or pictures");
                return Err(invalid("variant", message));
            }
            _ => return Err(no_such_parameter(&name, "variant")),
        };
    }
    Ok(variant)
}

async fn video(app: &App, id: VideoId, headers: &HeaderMap) -> Result<Response, Problem> {
    let slot = stream_slot(&app.streams)?;
    let path = app.service.file(id).await?;
    let (mut file, bytes) = open(&path).await?;
    let tag = format!("\"{id}-{bytes}\"");
    if text(headers, IF_NONE_MATCH).is_some_and(|tags| names(tags, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let is_same = text(headers, IF_RANGE).is_none_or(|known| known == tag);
    let range = text(headers, RANGE).filter(|_| is_same);
    let (status, range) = match range.map_or(Wanted::Whole, |range| wanted(range, bytes)) {
        Wanted::Whole => (StatusCode::OK, 0..bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Beyond => return Ok(beyond(bytes)),
    };
    let sought = file.seek(SeekFrom::Start(range.start)).await;
    sought.map_err(|error| Problem::internal(&format!("seek {}: {error}", path.display())))?;
    let part = (status == StatusCode::PARTIAL_CONTENT).then(|| {
        let (first, last) = (range.start, range.end - 1);
        [(CONTENT_RANGE, format!("bytes {first}-{last}/{bytes}"))]
    });
    let fields = [
        (CONTENT_TYPE, "video/mp4".to_owned()),
        (CONTENT_LENGTH, (range.end - range.start).to_string()),
        (CONTENT_DISPOSITION, format!("inline; filename=\"{id}.mp4\"")),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, tag),
    ];
    Ok((status, fields, part, body(parts(file, range), slot)).into_response())
}

async fn thumbnail(app: &App, id: VideoId) -> Result<Response, Problem> {
    let Thumbnail { media_type, bytes } = app.service.thumbnail(id).await?;
    Ok(([(CONTENT_TYPE, media_type)], bytes).into_response())
}

async fn pictures(app: &App, id: VideoId) -> Result<Response, Problem> {
    let slot = stream_slot(&app.streams)?;
    let pictures = app.service.pictures(id).await?;
    let fields = [
        (CONTENT_TYPE, "application/x-tar".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.tar\"")),
    ];
    Ok((fields, body(archive(pictures), slot)).into_response())
}

fn beyond(bytes: u64) -> Response {
    let message = format!("the range begins behind the end; the file has {bytes} bytes");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "invalid_range", message);
    ([(CONTENT_RANGE, format!("bytes */{bytes}"))], problem).into_response()
}

/// A body that keeps its slot, and logs why it ends early if it does: the client
/// sees no more of that than a cut connection.
fn body<S>(parts: S, slot: OwnedSemaphorePermit) -> Body
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let log = |error: &io::Error| tracing::warn!(%error, "an answer was cut short");
    Body::from_stream(held(parts, slot).inspect_err(log))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list of tags has this one; a weak one names the same bytes.
fn names(tags: &str, tag: &str) -> bool {
    let mut tags = tags.split(',').map(|known| known.trim().trim_start_matches("W/"));
    tags.any(|known| known == tag || known == "*")
}
