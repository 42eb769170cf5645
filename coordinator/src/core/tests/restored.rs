//! Records that another life of a coordinator has left, perhaps with another model.

use api::{Refusal, Status as Shown};
use types::{Epoch, JobId, ModelDigest};

use super::{House, model, wish};
use crate::{
    core::Logged,
    records::{self, Status},
};

#[tokio::test]
async fn finished_video_of_another_model_is_shown_as_its_own_and_not_decoded_by_this_one() {
    let mut house = House::open().await;
    let job = JobId(7);
    std::fs::write(house.folder.path().join(format!("{job}.mp4")), [1; 100]).unwrap();

    house.core.restore(job, record(Status::Completed, "films", 9), Some(&logged(9))).unwrap();

    let video = house.core.video(job).unwrap();
    assert_eq!((video.model.as_str(), video.status), ("films", Shown::Completed));
    assert_eq!((video.progress, video.pictures), (100, 32));
    assert_eq!(house.core.films[&job].kept_bytes(), 100 + 3 * 1000, "the log's bytes count");
    let Err(Refusal::OtherModel { message }) = house.core.view(job) else { panic!("not refused") };
    let named = ["`films` (digest 090909090909)", "`mini` (digest 010101010101)", "serve --model"];
    assert!(named.iter().all(|named| message.contains(named)), "{message}");
    assert!(house.core.cancel(job) && house.core.video(job).is_none(), "it is deleted");
}

#[tokio::test]
async fn video_that_another_model_had_begun_ends_with_both_names_and_keeps_its_log() {
    for status in [Status::Queued, Status::InProgress] {
        let mut house = House::open().await;
        let job = JobId(7);
        let begun = house.folder.path().join(format!("{job}.live.mp4"));
        std::fs::write(&begun, [1; 100]).unwrap();

        house.core.restore(job, record(status, "films", 9), Some(&logged(9))).unwrap();

        let video = house.core.video(job).unwrap();
        let problem = video.error.unwrap().message;
        assert_eq!((video.model.as_str(), video.status), ("films", Shown::Failed));
        assert!(problem.contains("`films`") && problem.contains("`mini`"), "{problem}");
        assert!(house.core.cluster.job(job).is_none() && !begun.exists());
        assert_eq!(house.core.films[&job].kept_bytes(), 2 * 1000, "of its log");
        let kept = house.core.films[&job].record();
        assert_eq!((kept.status, kept.epoch), (Status::Failed, 4), "the log's epoch");
        assert_eq!(kept.model, record(status, "films", 9).model);
        assert!(kept.completed_at.is_some());
    }
}

#[tokio::test]
async fn record_without_a_model_is_of_the_served_one_unless_the_log_knows_better() {
    let mut house = House::open().await;
    let old = || records::Job { model: None, ..record(Status::Completed, "", 0) };

    house.core.restore(JobId(7), old(), Some(&logged(1))).unwrap();
    house.core.restore(JobId(8), old(), None).unwrap();
    house.core.restore(JobId(9), old(), Some(&logged(9))).unwrap();

    let names = [7, 8, 9].map(|job| house.core.video(JobId(job)).unwrap().model);
    assert_eq!(names, ["mini", "mini", "unknown"]);
    let views = [7, 8, 9].map(|job| house.core.view(JobId(job)).unwrap_err());
    let is_other = views.map(|refusal| matches!(refusal, Refusal::OtherModel { .. }));
    assert_eq!(is_other, [false, false, true]);
}

#[tokio::test]
async fn video_that_the_served_model_would_not_make_is_listed_all_the_same() {
    let mut house = House::open().await;
    let odd = |status| records::Job { width: 130, ..record(status, "mini", 1) };

    house.core.restore(JobId(7), odd(Status::Completed), Some(&logged(1))).unwrap();
    house.core.restore(JobId(8), odd(Status::Queued), None).unwrap();
    let endless = records::Job { seconds: 1e9, ..record(Status::Queued, "mini", 1) };
    house.core.restore(JobId(9), endless, None).unwrap();

    let statuses = [7, 8, 9].map(|job| house.core.video(JobId(job)).unwrap().status);
    assert_eq!(statuses, [Shown::Completed, Shown::Failed, Shown::Failed]);
    assert!(matches!(house.core.view(JobId(7)), Err(Refusal::OtherModel { .. })));
}

#[tokio::test]
async fn record_of_an_earlier_version_can_be_read_and_an_earlier_version_reads_ours() {
    let mut value = serde_json::to_value(record(Status::Queued, "films", 9)).unwrap();
    let model = value.as_object_mut().unwrap().remove("model").unwrap();

    let old: records::Job = serde_json::from_value(value).unwrap();

    assert_eq!(old, records::Job { model: None, ..record(Status::Queued, "films", 9) });
    assert_eq!((&model["name"], &model["digest"]), (&"films".into(), &"09".repeat(32).into()));
}

/// The record of a video of two seconds, which is three chunks.
fn record(status: Status, name: &str, digest: u8) -> records::Job {
    let served = model(name, digest);
    let film = wish(7, &served).film(&served, std::path::Path::new("")).unwrap().0;
    let completed_at = (status == Status::Completed).then_some(200);
    records::Job { status, epoch: 3, completed_at, ..film.record() }
}

/// A log with two chunks of a model of this digest.
fn logged(digest: u8) -> Logged {
    let model = ModelDigest([digest; 32]);
    Logged { epoch: Epoch(4), committed: 2, model, chunk_bytes: 1000 }
}
