//! A client without a socket.

use std::sync::Arc;

use api::{Access, VideoId, router};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, Response, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::Fake;

/// A door and the house behind it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) fake: Arc<Fake>,
    pub(crate) router: Router,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Door {
    pub(crate) fn new(access: Access) -> Self {
        let fake = Arc::new(Fake::new());
        let router = router(fake.clone(), access);
        Self { fake, router }
    }

    pub(crate) fn open() -> Self {
        Self::new(Access::Loopback)
    }

    /// Sends a request and leaves the answer's body unread.
    pub(crate) async fn begin(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.begin(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[])).await
    }

    /// Asks for a video.
    pub(crate) async fn ask(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        let mut request = request(Method::POST, "/v1/videos", &[("content-type", content_type)]);
        *request.body_mut() = body.into();
        self.send(request).await
    }

    /// Asks for a video and gives its name.
    pub(crate) async fn new_video(&self) -> VideoId {
        let answer = self.ask("application/json", json!({ "prompt": "a ball" }).to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status, class, field and code of an error, in the shape clients know.
    pub(crate) fn error(&self) -> (u16, String, Option<String>, String) {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        let error = json["error"].as_object().unwrap();
        assert_eq!(error.len(), 4, "{json}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (self.status.as_u16(), text("type").unwrap(), text("param"), text("code").unwrap())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}
