//! What every request passes through.
//!
//! ```text
//! identify: id, span, panics ─▶ access ─▶ enter: a slot ─▶ hurry: a limit of time ─▶ handler
//! ```
//!
//! A request has an id: the client's if it sends a decent one, else ours. It is
//! in the answer, in the span of everything logged on the way, and nowhere else.
//! A handler that panics costs one answer.
//!
//! Invariants: at most [`REQUESTS_MAX`] requests are in handlers, and at most
//! [`STREAMS_MAX`] answers are streams; who comes beyond that hears so at once.
//! What goes on when its client has left keeps its slot until it is done.

use std::{
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, field::Empty};

use crate::refusal::{Problem, Refusal};

/// Requests that are worked on at once. Chosen: their bodies take 256 MiB at most.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Answers that are streams, at once. Chosen: their parts take 8 MiB at most.
pub(crate) const STREAMS_MAX: usize = 128;
/// Time for a request that only asks or admits. Chosen.
const HURRY: Duration = Duration::from_secs(30);
/// When to come back where there is no room. Chosen.
const RETRY_AFTER_SECONDS: u64 = 5;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Room for a request; dropped when it is done.
#[derive(Clone, Debug)]
pub(crate) struct Slot(
    #[expect(dead_code, reason = "it is there to be dropped")] Arc<OwnedSemaphorePermit>,
);

/// Gives a request its id and its span, and turns a panic into an answer.
pub(crate) async fn identify(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).filter(|id| is_decent(id));
    let id = id.cloned().unwrap_or_else(new_id);
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        route,
        id = id.to_str().unwrap_or_default(),
        status = Empty,
    );
    let answer = async {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let answer =
            answer.unwrap_or_else(|_| Problem::internal("a handler panicked").into_response());
        tracing::Span::current().record("status", answer.status().as_u16());
        tracing::debug!("answered");
        answer
    };
    let mut answer = answer.instrument(span).await;
    answer.headers_mut().insert(REQUEST_ID, id);
    answer
}

/// Gives a request a slot, or turns it away.
pub(crate) async fn enter(
    State(requests): State<Arc<Semaphore>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(permit) = requests.try_acquire_owned() else {
        let message = format!("{REQUESTS_MAX} requests are being worked on; come back later");
        let problem = Problem::from(Refusal::Unavailable { message });
        return Problem { retry_after_seconds: Some(RETRY_AFTER_SECONDS), ..problem }
            .into_response();
    };
    let slot = Slot(Arc::new(permit));
    request.extensions_mut().insert(slot.clone());
    let answer = next.run(request).await;
    drop(slot);
    answer
}

/// Ends a request that takes too long.
pub(crate) async fn hurry(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(HURRY, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let seconds = HURRY.as_secs();
        let message = format!("no answer after {seconds} seconds; ask again");
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into_response()
    })
}

/// Room for one more stream, to be held as long as it lasts.
pub(crate) fn stream_slot(streams: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(streams).try_acquire_owned().map_err(|_| Refusal::TooManyRequests {
        message: format!("{STREAMS_MAX} streams are open; close one, or come back later"),
        retry_after_seconds: RETRY_AFTER_SECONDS,
    })
}

/// A stream that keeps its slot until it ends or its client leaves.
pub(crate) fn held<S: Stream>(
    stream: S,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = S::Item> {
    stream.inspect(move |_| {
        let _held = &slot;
    })
}

/// Runs what changes something to its end, even if its client leaves.
pub(crate) async fn to_the_end<T: Send + 'static>(
    slot: Slot,
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Problem> {
    let change = async {
        let outcome = change.await;
        drop(slot);
        outcome
    };
    match tokio::spawn(change.in_current_span()).await {
        Ok(outcome) => Ok(outcome?),
        Err(error) => Err(Problem::internal(&format!("a change panicked: {error}"))),
    }
}

fn is_decent(id: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
}

/// An id that no other request of this or another process has.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("process"));
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let (process, request) = (*PROCESS, REQUESTS.fetch_add(1, Ordering::Relaxed));
    let id = format!("req_{process:016x}{request:08x}");
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("req"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_without_a_client_keeps_its_slot_until_it_is_done() {
        let requests = Arc::new(Semaphore::new(1));
        let slot = Slot(Arc::new(requests.clone().try_acquire_owned().unwrap()));
        let (confirm, confirmed) = oneshot::channel();
        let change = async move { confirmed.await.map_err(|_| unreachable!()) };
        let mut client = Box::pin(to_the_end(slot, change));
        assert!(client.as_mut().now_or_never().is_none());

        drop(client);
        tokio::task::yield_now().await;

        assert_eq!(requests.available_permits(), 0);
        confirm.send(()).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(requests.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_change_that_panics_is_an_answer() {
        let requests = Arc::new(Semaphore::new(1));
        let slot = Slot(Arc::new(requests.clone().try_acquire_owned().unwrap()));

        let answer = to_the_end::<()>(slot, async { panic!("a trap") }).await;

        assert_eq!(answer.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(requests.available_permits(), 1);
    }
}
