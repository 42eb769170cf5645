//! Events of a video as a client reads them.

use std::time::Duration;

use api::{Happening, PlannedStage, StageTiming, VideoId};
use axum::{
    body::Body,
    http::{Method, Response},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{
    client::{Door, request},
    fake::LIFE,
};

#[tokio::test]
async fn all_events_come_in_order_and_the_last_one_ends_them() {
    let door = Door::open();
    let id = door.new_video().await;
    story(&door, id);

    let answer = door.get(&format!("/v1/videos/{id}/events")).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("x-accel-buffering"), "no");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let told: Vec<_> = text.split_terminator("\n\n").map(told).collect();
    let of = |number: u64, what: Value| {
        let mut data = json!({ "object": "video.event", "video_id": id });
        data.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        (number, what["type"].as_str().unwrap().to_owned(), data)
    };
    let timing = json!({
        "stage": "layers 0..8", "worker": "a", "compute_seconds": 1.0,
        "transfer_seconds": 1.0, "wait_seconds": 0.25, "sent_bytes": 9, "received_bytes": 1,
    });
    let stages = json!([{ "stage": "layers 0..8", "worker": "a" }]);
    let want = [
        json!({ "type": "queued", "position": 2, "estimated_start_at": 1_700_000_009 }),
        json!({
            "type": "planned", "epoch": 1, "stages": stages, "chunk_seconds": 1.5,
            "bottleneck": "compute of a",
        }),
        json!({ "type": "started" }),
        json!({
            "type": "chunk_committed", "chunk": 0, "chunks": 1, "pictures": 9, "seconds": 1.75,
            "stage_timings": [timing],
        }),
        json!({ "type": "done", "pictures": 9 }),
    ];
    assert_eq!(told, (1..).zip(want).map(|(n, what)| of(n, what)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_comes_back_misses_none_and_gets_none_twice() {
    let door = Door::open();
    let id = door.new_video().await;
    story(&door, id);

    assert_eq!(numbers(&door, id, &format!("{LIFE}-3")).await, [4, 5]);
    // A browser stops asking.
    assert_eq!(begin(&door, id, &format!("{LIFE}-5")).await.status(), 204);
}

#[tokio::test]
async fn a_client_of_another_life_of_the_server_gets_all_from_the_beginning() {
    let door = Door::open();
    let id = door.new_video().await;
    story(&door, id);

    for last in ["2-3", "4-1", "2-5", "5"] {
        assert_eq!(numbers(&door, id, last).await, [1, 2, 3, 4, 5], "{last}");
    }
}

#[tokio::test]
async fn events_come_when_they_happen() {
    let door = Door::open();
    let id = door.new_video().await;
    let mut body = begin(&door, id, "0").await.into_body();
    for (number, what) in [(1, Happening::Started), (2, Happening::Done { pictures: 1 })] {
        let name = what.name();
        door.fake.tell(id, what);

        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();

        let (found, kind, _) = told(std::str::from_utf8(&event).unwrap().trim_end());
        assert_eq!((found, kind.as_str()), (number, name));
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_kept_alive() {
    let door = Door::open();
    let id = door.new_video().await;
    let begun = tokio::time::Instant::now();
    let mut body = begin(&door, id, "0").await.into_body();

    let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();

    assert_eq!(comment, ": keep-alive\n\n");
    assert_eq!(begun.elapsed().as_secs(), Duration::from_secs(10).as_secs());
}

#[tokio::test]
async fn an_id_that_is_none_is_refused() {
    let door = Door::open();
    let id = door.new_video().await;
    let path = format!("/v1/videos/{id}/events");

    let answer = door.send(request(Method::GET, &path, &[("last-event-id", "x")])).await;

    let (status, _, param, _) = answer.error();
    assert_eq!((status, param.as_deref()), (400, Some("Last-Event-ID")));
}

async fn begin(door: &Door, id: VideoId, last: &str) -> Response<Body> {
    let path = format!("/v1/videos/{id}/events");
    door.begin(request(Method::GET, &path, &[("last-event-id", last)])).await
}

fn story(door: &Door, id: VideoId) {
    let (stage, worker) = ("layers 0..8".to_owned(), "a".to_owned());
    let timing = StageTiming {
        stage: stage.clone(),
        worker: worker.clone(),
        compute_seconds: 1.0,
        transfer_seconds: 1.0,
        wait_seconds: 0.25,
        sent_bytes: 9,
        received_bytes: 1,
    };
    for what in [
        Happening::Queued { position: 2, estimated_start_at: Some(1_700_000_009) },
        Happening::Planned {
            epoch: 1,
            stages: vec![PlannedStage { stage, worker }],
            chunk_seconds: 1.5,
            bottleneck: "compute of a".to_owned(),
        },
        Happening::Started,
        Happening::ChunkCommitted {
            chunk: 0,
            chunks: 1,
            pictures: 9,
            seconds: 1.75,
            stage_timings: vec![timing],
        },
        Happening::Done { pictures: 9 },
    ] {
        door.fake.tell(id, what);
    }
}

/// Numbers of the events that are told to a client that has seen this one.
async fn numbers(door: &Door, id: VideoId, last: &str) -> Vec<u64> {
    let rest = begin(door, id, last).await;
    let bytes = rest.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.split_terminator("\n\n").map(|event| told(event).0).collect()
}

/// Number, name and data of an event on the wire.
fn told(event: &str) -> (u64, String, Value) {
    let mut lines = event.lines();
    let mut field = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap();
    let (number, name, data) = (field("id: "), field("event: "), field("data: "));
    let (life, number) = number.split_once('-').unwrap();
    assert_eq!(life, LIFE.to_string());
    (number.parse().unwrap(), name.to_owned(), serde_json::from_str(data).unwrap())
}
