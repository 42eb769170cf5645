//! What a finished video consists of.

use api::VideoId;
use axum::http::Method;

use crate::client::{Answer, Door, request};

#[tokio::test]
async fn the_file_comes_whole_with_its_name_and_tag() {
    let (door, id, film) = finished().await;

    let answer = door.get(&format!("/v1/videos/{id}/content")).await;

    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, film.as_slice()));
    for (name, value) in [
        ("content-type", "video/mp4"),
        ("content-length", "200000"),
        ("accept-ranges", "bytes"),
        ("content-disposition", &format!("inline; filename=\"{id}.mp4\"")),
        ("etag", &format!("\"{id}-200000\"")),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_range_comes_alone() {
    let (door, id, film) = finished().await;
    for (range, bytes, content_range) in [
        ("bytes=0-0", 0..1, "bytes 0-0/200000"),
        ("bytes=65000-140000", 65_000..140_001, "bytes 65000-140000/200000"),
        ("bytes=199990-", 199_990..200_000, "bytes 199990-199999/200000"),
        ("bytes=-3", 199_997..200_000, "bytes 199997-199999/200000"),
    ] {
        let answer = get(&door, id, &[("range", range)]).await;

        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (206, &film[bytes.clone()]));
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
    }
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused_with_the_length() {
    let (door, id, _) = finished().await;

    let answer = get(&door, id, &[("range", "bytes=200000-")]).await;

    let class = "invalid_request_error".to_owned();
    assert_eq!(answer.error(), (416, class, None, "invalid_range".to_owned()));
    assert_eq!(answer.header("content-range"), "bytes */200000");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let (door, id, film) = finished().await;
    let tag = format!("\"{id}-200000\"");

    let known = get(&door, id, &[("if-none-match", &format!("\"other\", W/{tag}"))]).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), tag);
    let other = get(&door, id, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.status, 200);
    let resumed = get(&door, id, &[("if-range", &tag), ("range", "bytes=5-")]).await;
    assert_eq!((resumed.status.as_u16(), resumed.body.as_ref()), (206, &film[5..]));
    let changed = get(&door, id, &[("if-range", "\"other\""), ("range", "bytes=5-")]).await;
    assert_eq!((changed.status.as_u16(), changed.body.as_ref()), (200, film.as_slice()));
}

#[tokio::test]
async fn a_head_request_tells_the_length_only() {
    let (door, id, _) = finished().await;

    let answer = door.send(request(Method::HEAD, &format!("/v1/videos/{id}/content"), &[])).await;

    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), "200000");
}

#[tokio::test]
async fn a_picture_stands_for_the_video() {
    let (door, id, _) = finished().await;

    let answer = door.get(&format!("/v1/videos/{id}/content?variant=thumbnail")).await;

    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, &b"\x89PNG"[..]));
    assert_eq!(answer.header("content-type"), "image/png");
}

#[tokio::test]
async fn all_pictures_come_as_an_archive() {
    let (door, id, _) = finished().await;

    let answer = door.get(&format!("/v1/videos/{id}/content?variant=pictures")).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/x-tar");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{id}.tar\""));
    // Headers and 300, 600 and 900 bytes in blocks of 512; two blocks to end.
    assert_eq!(answer.body.len(), 512 * (3 + 1 + 2 + 2 + 2));
    for (place, name) in [(0, b"000001.png"), (1_024, b"000002.png"), (2_560, b"000003.png")] {
        assert_eq!(&answer.body[place..place + 10], name);
    }
}

#[tokio::test]
async fn a_running_video_has_no_content_yet() {
    let door = Door::open();
    let id = door.new_video().await;
    for variant in ["video", "thumbnail", "pictures"] {
        let answer = door.get(&format!("/v1/videos/{id}/content?variant={variant}")).await;

        let class = "invalid_request_error".to_owned();
        assert_eq!(answer.error(), (404, class, None, "not_ready".to_owned()), "{variant}");
        assert!(answer.message().contains("wait for it"));
    }
}

#[tokio::test]
async fn other_variants_and_parameters_are_named() {
    let (door, id, _) = finished().await;
    for (query, param) in [("variant=spritesheet", "variant"), ("size=1", "size")] {
        let answer = door.get(&format!("/v1/videos/{id}/content?{query}")).await;

        let (status, _, found, _) = answer.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)));
        assert!(answer.message().contains("variant"), "{}", answer.message());
    }
}

async fn finished() -> (Door, VideoId, Vec<u8>) {
    let door = Door::open();
    let id = door.new_video().await;
    let film: Vec<u8> =
        (0..200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    door.fake.write(id, &film);
    door.fake.finish(id);
    (door, id, film)
}

async fn get(door: &Door, id: VideoId, headers: &[(&str, &str)]) -> Answer {
    door.send(request(Method::GET, &format!("/v1/videos/{id}/content"), headers)).await
}
