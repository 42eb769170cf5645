//! Videos: asked for, looked up, listed, deleted.

use axum::{
    Extension, Json,
    extract::{FromRequestParts, Path, Query, Request, State},
    http::{StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    create,
    fields::repeated,
    guard::{Slot, to_the_end},
    refusal::{Problem, Refusal, invalid},
    routes::App,
    video::{List, NotAnId, Order, Page, Video, VideoId},
};

/// A video as it stands on the wire, with what is the same for all.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    object: &'static str,
    #[serde(flatten)]
    video: Video,
    quality: &'static str,
    remixed_from_video_id: Option<VideoId>,
}

/// The video that a path names.
pub(crate) struct Id(pub(crate) VideoId);

impl Shown {
    pub(crate) fn new(video: Video) -> Self {
        Self { object: "video", video, quality: "standard", remixed_from_video_id: None }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let text = path.map_or_else(|_| "?".to_owned(), |Path(text)| text);
        let id = text.parse().map_err(|error: NotAnId| Refusal::NotFound {
            message: format!("there is no video {}: {error}", repeated(&text)),
        })?;
        Ok(Self(id))
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    Extension(slot): Extension<Slot>,
    request: Request,
) -> Result<Json<Shown>, Problem> {
    let new = create::read(request).await?;
    let video = to_the_end(slot, async move { app.service.create(new).await }).await?;
    Ok(Json(Shown::new(video)))
}

pub(crate) async fn look_up(State(app): State<App>, Id(id): Id) -> Result<Json<Shown>, Problem> {
    Ok(Json(Shown::new(app.service.video(id).await?)))
}

pub(crate) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let List { videos, has_more } = app.service.list(page(&uri)?).await?;
    let (first_id, last_id) = (videos.first().map(|v| v.id), videos.last().map(|v| v.id));
    let data: Vec<Shown> = videos.into_iter().map(Shown::new).collect();
    let list = json!({
        "object": "list",
        "data": data,
        "first_id": first_id,
        "last_id": last_id,
        "has_more": has_more,
    });
    Ok(Json(list).into_response())
}

pub(crate) async fn delete(
    State(app): State<App>,
    Extension(slot): Extension<Slot>,
    Id(id): Id,
) -> Result<Response, Problem> {
    to_the_end(slot, async move { app.service.delete(id).await }).await?;
    Ok(Json(json!({ "id": id, "object": "video.deleted", "deleted": true })).into_response())
}

pub(crate) async fn remix(Id(_): Id) -> Problem {
    let message = "remix is not supported; ask for a new video with another prompt";
    Problem::new(StatusCode::BAD_REQUEST, "not_supported", message)
}

/// The parameters of a query, in their order.
pub(crate) fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let query = Query::try_from_uri(uri).map_err(|error| Refusal::InvalidRequest {
        param: None,
        message: format!("the query cannot be read: {}", error.body_text()),
    })?;
    Ok(query.0)
}

/// Refuses a parameter that is not one of these.
pub(crate) fn no_such_parameter(name: &str, known: &str) -> Refusal {
    let message = format!("there is no parameter {}; leave it out, or use {known}", repeated(name));
    invalid(name, message)
}

fn page(uri: &Uri) -> Result<Page, Refusal> {
    let mut page = Page { after: None, limit: Page::LIMIT_DEFAULT, order: Order::Descending };
    for (name, value) in parameters(uri)? {
        let wrong =
            |advice: &str| invalid(&name, format!("`{name}` is {}; {advice}", repeated(&value)));
        match name.as_str() {
            "after" => {
                let id = value.parse();
                let id = id.map_err(|_| wrong("give the `last_id` of the page before"))?;
                page.after = Some(id);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|l| (1..=Page::LIMIT_MAX).contains(l));
                let advice = format!("give a whole number from 1 to {}", Page::LIMIT_MAX);
                page.limit = limit.ok_or_else(|| wrong(&advice))?;
            }
            "order" => {
                page.order = match value.as_str() {
                    "asc" => Order::Ascending,
                    "desc" => Order::Descending,
                    _ => return Err(wrong("give asc (oldest first) or desc (newest first)")),
                }
            }
            _ => return Err(no_such_parameter(&name, "after, limit or order")),
        }
    }
    Ok(page)
}
