//! Videos looked up, listed and deleted.

use api::{Happening, VideoId};
use axum::http::Method;
use serde_json::{Value, json};

use crate::client::{Door, request};

#[tokio::test]
async fn a_video_has_every_field_of_the_interface() {
    let door = Door::open();
    let body = json!({ "prompt": "a ball", "seconds": 12.5, "size": "832x480", "seed": "3" });

    let created = door.ask("application/json", body.to_string()).await;

    let id = VideoId(1).to_string();
    let want = json!({
        "id": id,
        "object": "video",
        "model": "house/mini",
        "prompt": "a ball",
        "status": "queued",
        "progress": 0,
        "created_at": 1_700_000_000,
        "started_at": null,
        "completed_at": null,
        "expires_at": null,
        "size": "832x480",
        "seconds": "12.5",
        "seed": 3,
        "fps": 8,
        "quality": "standard",
        "remixed_from_video_id": null,
        "error": null,
        "queue_position": 0,
        "estimated_start_at": 1_700_000_001,
        "estimated_completion_at": 1_700_000_061,
        "pictures": 0,
        "stage_timings": [],
    });
    assert_eq!(created.json(), want);
    let looked_up = door.get(&format!("/v1/videos/{id}")).await;
    assert_eq!((looked_up.status.as_u16(), looked_up.json()), (200, want));
}

#[tokio::test]
async fn whole_seconds_have_no_fraction() {
    let door = Door::open();

    let answer = door.ask("application/json", r#"{"prompt": "p", "seconds": 8}"#).await;

    assert_eq!(answer.json()["seconds"], "8");
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders() {
    let door = Door::open();
    for _ in 0..5 {
        door.new_video().await;
    }
    for (order, numbers) in [("asc", [1, 2, 3, 4, 5]), ("desc", [5, 4, 3, 2, 1])] {
        let mut after = String::new();
        for (page, more) in numbers.chunks(2).zip([true, true, false]) {
            let list = door.get(&format!("/v1/videos?limit=2&order={order}{after}")).await.json();

            let ids: Vec<String> = page.iter().map(|n| VideoId(*n).to_string()).collect();
            let found: Vec<&Value> =
                list["data"].as_array().unwrap().iter().map(|video| &video["id"]).collect();
            assert_eq!(found, ids.iter().collect::<Vec<_>>());
            let (first, last) = (&ids[0], &ids[ids.len() - 1]);
            assert_eq!((&list["first_id"], &list["last_id"]), (&json!(first), &json!(last)));
            assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(more)));
            after = format!("&after={last}");
        }
    }
    let newest_first = door.get("/v1/videos").await.json();
    assert_eq!(newest_first["first_id"], VideoId(5).to_string());
}

#[tokio::test]
async fn an_empty_page_has_no_first_and_no_last() {
    let list = Door::open().get("/v1/videos").await.json();

    let want = json!({
        "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false,
    });
    assert_eq!(list, want);
}

#[tokio::test]
async fn wrong_parameters_of_a_list_are_named() {
    let door = Door::open();
    let unknown = format!("after={}", VideoId(9));
    for (query, param, advice) in [
        (unknown.as_str(), "after", "begin without `after`"),
        ("after=9", "after", "`last_id`"),
        ("limit=0", "limit", "from 1 to 100"),
        ("limit=101", "limit", "from 1 to 100"),
        ("limit=many", "limit", "from 1 to 100"),
        ("order=newest", "order", "asc (oldest first)"),
        ("page=2", "page", "after, limit or order"),
    ] {
        let answer = door.get(&format!("/v1/videos?{query}")).await;

        let (status, _, found, _) = answer.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{query}");
        assert!(answer.message().contains(advice), "{query}: {}", answer.message());
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let door = Door::open();
    let missing = VideoId(9).to_string();
    for name in [missing.as_str(), "video_9", "9", "%ff", "..%2f..", &"x".repeat(4_000)] {
        for rest in ["", "/content", "/events", "/stream"] {
            let answer = door.get(&format!("/v1/videos/{name}{rest}")).await;

            assert_eq!(answer.error().0, 404, "{name}{rest}");
            assert!(answer.message().len() < 200, "{}", answer.message());
        }
    }
    let path = format!("/v1/videos/{missing}");
    assert_eq!(door.send(request(Method::DELETE, &path, &[])).await.error().0, 404);
}

#[tokio::test]
async fn a_deleted_video_is_gone() {
    let door = Door::open();
    let id = door.new_video().await;
    let path = format!("/v1/videos/{id}");

    let deleted = door.send(request(Method::DELETE, &path, &[])).await;

    let want = json!({ "id": id, "object": "video.deleted", "deleted": true });
    assert_eq!((deleted.status.as_u16(), deleted.json()), (200, want));
    assert_eq!(door.get(&path).await.error().0, 404);
}

#[tokio::test]
async fn a_deletion_goes_on_when_its_client_leaves() {
    let door = Door::open();
    let id = door.new_video().await;
    door.fake.confirmations.forget_permits(1);
    let events = door.begin(request(Method::GET, &format!("/v1/videos/{id}/events"), &[])).await;
    let deletion = tokio::spawn({
        let door = door.clone();
        async move { door.send(request(Method::DELETE, &format!("/v1/videos/{id}"), &[])).await }
    });
    while door.fake.deletions.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }

    deletion.abort();
    assert!(deletion.await.unwrap_err().is_cancelled());
    assert!(door.fake.holds(id), "the stages have not confirmed");
    door.fake.confirmations.add_permits(1);

    let events = axum::body::to_bytes(events.into_body(), 10_000).await.unwrap();
    assert!(events.ends_with(b"\"type\":\"cancelled\"}\n\n"), "{events:?}");
    tokio::task::yield_now().await;
    assert!(!door.fake.holds(id));
}

#[tokio::test]
async fn remix_says_that_there_is_none() {
    let door = Door::open();
    let id = door.new_video().await;

    let answer = door.send(request(Method::POST, &format!("/v1/videos/{id}/remix"), &[])).await;

    let class = "invalid_request_error".to_owned();
    assert_eq!(answer.error(), (400, class, None, "not_supported".to_owned()));
}

#[tokio::test]
async fn a_failed_video_is_told_by_its_events() {
    let door = Door::open();
    let id = door.new_video().await;
    let error = api::VideoError { code: "no_memory".to_owned(), message: "too big".to_owned() };
    door.fake.tell(id, Happening::Failed { error });

    let events = door.get(&format!("/v1/videos/{id}/events")).await;

    let what = r#""type":"failed","error":{"code":"no_memory","message":"too big"}"#;
    let data = format!(r#"{{"object":"video.event","video_id":"{id}",{what}}}"#);
    assert_eq!(events.body, format!("id: 3-1\nevent: failed\ndata: {data}\n\n"));
}
