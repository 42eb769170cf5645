//! What holds for every request.

use std::sync::atomic::Ordering;

use api::{Access, Keys};
use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    client::{Door, request},
    fake::Trap,
};

/// Requests that are worked on at once.
const REQUESTS_MAX: usize = 256;
/// Answers that are streams, at once.
const STREAMS_MAX: usize = 128;

#[tokio::test]
async fn without_its_key_nothing_is_done_but_health_is_told() {
    let door = Door::new(Access::Keys(Keys::new(["right"]).unwrap()));
    let paths = ["/v1/videos", "/v1/models", "/metrics", "/readyz", "/openapi.json", "/nowhere"];
    for path in paths {
        for authorization in ["", "Bearer wrong"] {
            let headers = [("authorization", authorization)];
            let answer = door.send(request(Method::GET, path, &headers)).await;

            let class = "invalid_request_error".to_owned();
            assert_eq!(answer.error(), (401, class, None, "invalid_api_key".to_owned()), "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        let headers = [("authorization", "Bearer right")];
        let answer = door.send(request(Method::GET, path, &headers)).await;
        assert_ne!(answer.status, 401, "{path}");
    }
    assert_eq!(door.get("/healthz").await.status, 200);
    assert_eq!(door.ask("application/json", r#"{"prompt": "p"}"#).await.status, 401);
    assert_eq!(door.fake.asked_for(), []);
}

#[tokio::test]
async fn a_foreign_page_cannot_ask_for_a_video() {
    let door = Door::open();
    let headers = [("host", "127.0.0.1:7842"), ("origin", "https://else.where")];

    let answer = door.send(request(Method::GET, "/v1/videos", &headers)).await;

    let class = "invalid_request_error".to_owned();
    assert_eq!(answer.error(), (403, class, None, "forbidden".to_owned()));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_json() {
    let door = Door::open();

    let path = door.get("/v2/videos").await;
    assert_eq!((path.error().0, path.error().3.as_str()), (404, "not_found"));
    assert!(path.message().contains("/openapi.json"));
    for (method, path) in [(Method::PUT, "/v1/videos"), (Method::POST, "/healthz")] {
        let answer = door.send(request(method, path, &[])).await;
        assert_eq!((answer.error().0, answer.error().3.as_str()), (405, "method_not_allowed"));
    }
}

#[tokio::test]
async fn the_router_has_the_methods_of_the_document_and_no_others() {
    let door = Door::open();
    let document = door.get("/openapi.json").await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let answer = door.send(request(Method::TRACE, &path.replace("{id}", "x"), &[])).await;

        let mut allowed: Vec<_> =
            answer.header("allow").split(',').map(str::to_lowercase).collect();
        // HEAD comes with GET and is not documented.
        allowed.retain(|method| method != "head");
        allowed.sort();
        let documented: Vec<&String> = methods.as_object().unwrap().keys().collect();
        assert_eq!(allowed.iter().collect::<Vec<_>>(), documented, "{path}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let door = Door::open();
    let with = async |id: &str| {
        let answer = door.send(request(Method::GET, "/v1/models", &[("x-request-id", id)])).await;
        answer.header("x-request-id").to_owned()
    };

    assert_eq!(with("trace-1.a:B_2").await, "trace-1.a:B_2");
    for indecent in ["", "two words", "a\"b", &"x".repeat(65)] {
        let id = with(indecent).await;
        assert!(id.starts_with("req_") && id.len() == 28, "{id}");
    }
    assert_ne!(with("").await, with("").await);
    let refused = door.get("/nowhere").await;
    assert!(refused.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let door = Door::open();
    door.fake.set_trap(Trap::Panic);

    let answer = door.get("/v1/cluster").await;

    let (class, code) = ("server_error".to_owned(), "internal_error".to_owned());
    assert_eq!(answer.error(), (500, class, None, code));
    assert!(!answer.message().contains("trap"), "what is inside stays there");
    assert!(answer.header("x-request-id").starts_with("req_"));
    door.fake.set_trap(Trap::None);
    assert_eq!(door.get("/v1/cluster").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_ended() {
    let door = Door::open();
    door.fake.set_trap(Trap::Hang);
    let begun = tokio::time::Instant::now();

    let answer = door.get("/v1/cluster").await;

    let (class, code) = ("server_error".to_owned(), "timeout".to_owned());
    assert_eq!(answer.error(), (504, class, None, code));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_may_take_as_long_as_the_stages_need() {
    let door = Door::open();
    let id = door.new_video().await;
    door.fake.confirmations.forget_permits(1);
    let confirm = async {
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        door.fake.confirmations.add_permits(1);
    };

    let delete = door.send(request(Method::DELETE, &format!("/v1/videos/{id}"), &[]));
    let (answer, ()) = tokio::join!(delete, confirm);

    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_turned_away_but_health_is_told() {
    let door = Door::open();
    door.fake.set_trap(Trap::Hang);
    let hanging: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| {
            let door = door.clone();
            tokio::spawn(async move { door.get("/v1/cluster").await })
        })
        .collect();
    while door.fake.cluster_calls.load(Ordering::SeqCst) < REQUESTS_MAX {
        tokio::task::yield_now().await;
    }

    let answer = door.get("/v1/models").await;
    let (class, code) = ("server_error".to_owned(), "unavailable".to_owned());
    assert_eq!(answer.error(), (503, class, None, code));
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(door.get("/healthz").await.status, 200);
    // Clients that leave make room.
    for request in hanging {
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    }
    assert_eq!(door.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn too_many_streams_at_once_are_turned_away() {
    let door = Door::open();
    let id = door.new_video().await;
    door.fake.write(id, b"begin");
    let begin = async |what: &str| {
        door.begin(request(Method::GET, &format!("/v1/videos/{id}/{what}"), &[])).await
    };
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX / 2 {
        streams.extend([begin("stream").await, begin("events").await]);
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));

    for what in ["stream", "events", "content"] {
        assert_eq!(begin(what).await.status(), 429, "{what}");
        let answer = door.get(&format!("/v1/videos/{id}/{what}")).await;
        let (class, code) = ("rate_limit_error".to_owned(), "rate_limit_exceeded".to_owned());
        assert_eq!(answer.error(), (429, class, None, code), "{what}");
        assert_eq!(answer.header("retry-after"), "5");
    }
    streams.pop();
    assert_eq!(begin("stream").await.status(), 200);
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let door = Door::open();
    let model = json!({
        "id": "house/mini", "object": "model", "created": 1_700_000_000, "owned_by": "house",
        "size": "128x80", "fps": 8,
    });

    let models = door.get("/v1/models").await.json();
    assert_eq!(models, json!({ "object": "list", "data": [model] }));
    assert_eq!(door.get("/v1/models/house/mini").await.json(), model);
    let missing = door.get("/v1/models/other").await;
    assert_eq!((missing.error().0, missing.error().3.as_str()), (404, "model_not_found"));
    assert!(missing.message().contains("/v1/models"));
    let cluster: Value = door.get("/v1/cluster").await.json();
    assert_eq!((&cluster["queued"], &cluster["workers"]), (&json!(2), &json!([])));
    let metrics = door.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
    assert_eq!(metrics.body, "filmloom_videos 1\n");
    assert_eq!(door.get("/readyz").await.status, 200);
    door.fake.set_trap(Trap::Hang);
    let waiting = door.get("/readyz").await;
    assert_eq!((waiting.error().0, waiting.message().as_str()), (503, "no worker is here"));
}
