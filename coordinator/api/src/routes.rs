//! Which request goes where.
//!
//! The routes are a list, so that a test can hold it against the OpenAPI document;
//! another one asks the router for the methods of every path of that document.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodFilter, MethodRouter, on},
};
use tokio::sync::Semaphore;

use crate::{
    access::{self, Access},
    content,
    create::BODY_BYTES_MAX,
    events,
    guard::{self, REQUESTS_MAX, STREAMS_MAX},
    plan,
    service::Service,
    system, videos,
};

/// What every handler can use.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) streams: Arc<Semaphore>,
}

/// One method of one path.
struct Route {
    path: &'static str,
    pace: Pace,
    to: MethodRouter<App>,
}

/// How a route is guarded.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// Neither key nor slot: it must answer when nothing else does.
    Always,
    /// Has a limit of time.
    Quick,
    /// Takes as long as a video or a file takes.
    Long,
}

/// The whole HTTP interface over a service.
pub fn router(service: Arc<dyn Service>, access: Access) -> Router {
    let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
    let app = App { service, streams: Arc::new(Semaphore::new(STREAMS_MAX)) };
    let (mut always, mut guarded) = (Router::new(), Router::new());
    for Route { path, pace, to } in routes() {
        match pace {
            Pace::Always => always = always.route(path, to),
            Pace::Quick => guarded = guarded.route(path, to.layer(from_fn(guard::hurry))),
            Pace::Long => guarded = guarded.route(path, to),
        }
    }
    guarded
        .fallback(system::no_such_route)
        .method_not_allowed_fallback(system::no_such_method)
        .layer(from_fn_with_state(requests, guard::enter))
        .layer(from_fn_with_state(access, access::check))
        .merge(always.method_not_allowed_fallback(system::no_such_method))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(guard::identify))
        .with_state(app)
}

fn routes() -> Vec<Route> {
    use MethodFilter as M;
    use Pace::{Always, Long, Quick};
    vec![
        route(M::POST, "/v1/videos", Quick, videos::create),
        route(M::GET, "/v1/videos", Quick, videos::list),
        route(M::GET, "/v1/videos/{id}", Quick, videos::look_up),
        route(M::DELETE, "/v1/videos/{id}", Long, videos::delete),
        route(M::POST, "/v1/videos/{id}/remix", Quick, videos::remix),
        route(M::GET, "/v1/videos/{id}/content", Long, content::content),
        route(M::GET, "/v1/videos/{id}/stream", Long, content::stream),
        route(M::GET, "/v1/videos/{id}/events", Long, events::events),
        route(M::GET, "/v1/models", Quick, system::models),
        // The name of a model may have slashes.
        route(M::GET, "/v1/models/{*id}", Quick, system::model),
        route(M::GET, "/v1/cluster", Quick, system::cluster),
        route(M::GET, "/v1/plan", Quick, plan::plan),
        route(M::GET, "/healthz", Always, system::health),
        route(M::GET, "/readyz", Quick, system::readiness),
        route(M::GET, "/metrics", Quick, system::metrics),
        route(M::GET, "/openapi.json", Quick, system::openapi),
    ]
}

fn route<H: Handler<T, App>, T: 'static>(
    method: MethodFilter,
    path: &'static str,
    pace: Pace,
    to: H,
) -> Route {
    Route { path, pace, to: on(method, to) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_path_is_in_the_document_and_no_other_one() {
        let document: Value = serde_json::from_str(system::OPENAPI).unwrap();
        let documented = document["paths"].as_object().unwrap().keys().cloned().collect();

        let paths: BTreeSet<_> = routes().iter().map(|route| route.path.replace('*', "")).collect();

        assert_eq!(paths, documented);
    }
}
