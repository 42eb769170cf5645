//! Events of a video as server-sent events.
//!
//! ```text
//! id: 3-4
//! event: chunk_committed
//! data: {"object":"video.event","video_id":"video_..","type":"chunk_committed","chunk":0, ..}
//! ```
//!
//! A client that was cut off comes back with `Last-Event-ID` and misses none;
//! browsers do so by themselves. If the server was started anew meanwhile, it is told
//! everything from the beginning, under other ids. One that comes back though it has
//! seen the last event is told 204, which makes a browser stop asking. Comments in
//! between keep proxies from closing a silent connection.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use serde::Serialize;

use crate::{
    event::{EventId, Happening, VideoEvent},
    fields::repeated,
    guard::{held, stream_slot},
    refusal::{Problem, Refusal, invalid},
    routes::App,
    service::Events,
    video::VideoId,
    videos::Id,
};

/// Between two comments. Chosen: proxies close after 30 or 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Data<'a> {
    object: &'static str,
    video_id: VideoId,
    #[serde(flatten)]
    what: &'a Happening,
}

pub(crate) async fn events(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?;
    let slot = stream_slot(&app.streams)?;
    let mut events = app.service.events(id, after).await?;
    let events: Events = match events.next().now_or_never() {
        Some(None) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Some(first)) => stream::iter([first]).chain(events).boxed(),
        None => events,
    };
    let wire = held(to_the_last(events), slot).map(move |event| on_wire(id, &event));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let buffering = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([buffering], Sse::new(wire).keep_alive(keep_alive)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?");
    text.parse().map(Some).map_err(|_| {
        let advice = "give the id of the last event that came, or leave it out";
        invalid("Last-Event-ID", format!("`Last-Event-ID` is {}; {advice}", repeated(text)))
    })
}

/// Ends behind the last event, whether or not the service does.
fn to_the_last(events: Events) -> impl Stream<Item = VideoEvent> {
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let event = events.next().await?;
        let rest = (!event.what.is_last()).then_some(events);
        Some((event, rest))
    })
}

fn on_wire(video_id: VideoId, event: &VideoEvent) -> Result<Event, axum::Error> {
    let VideoEvent { id, what } = event;
    let data = Data { object: "video.event", video_id, what };
    Event::default().id(id.to_string()).event(what.name()).json_data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_event_ends_them_even_if_the_service_does_not() {
        let event = |number, what| VideoEvent { id: EventId { life: 1, number }, what };
        let told = [event(1, Happening::Started), event(2, Happening::Cancelled)];
        let endless = stream::iter(told.clone()).chain(stream::pending()).boxed();

        let all = to_the_last(endless).collect::<Vec<_>>().now_or_never();

        assert_eq!(all, Some(told.to_vec()));
    }
}
