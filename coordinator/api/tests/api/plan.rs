//! What is asked of a plan, and what comes of it.

use std::num::NonZeroU32;

use api::{PlanWish, Size};

use crate::{
    client::Door,
    fake::{BUSY_JOBS, NO_ROOM_JOBS},
};

#[tokio::test]
async fn wish_reaches_the_service_and_its_answer_the_client() {
    let door = Door::open();

    let plan = door.get("/v1/plan?model=house%2Fmini&size=256x160&seconds=2.5&jobs=3").await;

    let wish = PlanWish {
        model: Some("house/mini".to_owned()),
        size: Some(Size { width: 256, height: 160 }),
        seconds: Some(2.5),
        jobs: NonZeroU32::new(3),
    };
    assert_eq!(door.fake.plans_asked_for(), [wish]);
    let plan = plan.json();
    assert_eq!((&plan["size"], &plan["jobs"]), (&"256x160".into(), &3.into()));
    assert_eq!(plan["workers"][0]["stages"][0], "layers 0..8");
    assert_eq!(plan["left_out"][0]["why"], "it is draining");
    assert_eq!(plan["one_node"]["name"], "boxA");
    assert!(plan["gain"].is_null());
}

#[tokio::test]
async fn what_is_left_out_is_the_servers_to_choose() {
    let door = Door::open();

    assert_eq!(door.get("/v1/plan").await.status, 200);

    assert_eq!(door.fake.plans_asked_for(), [PlanWish::default()]);
}

#[tokio::test]
async fn wrong_parameters_are_named_with_what_would_be_right() {
    let door = Door::open();
    let long = format!("model={}", "m".repeat(201));
    for (query, param, advice) in [
        (&long[..], "model", "at most 200 characters"),
        ("size=832", "size", "832x480"),
        ("seconds=0", "seconds", "above 0"),
        ("seconds=NaN", "seconds", "above 0"),
        ("seconds=86401", "seconds", "at most 86400"),
        ("jobs=0", "jobs", "from 1 to 1000"),
        ("jobs=1001", "jobs", "from 1 to 1000"),
        ("jobs=two", "jobs", "from 1 to 1000"),
        ("workers=2", "workers", "model, size, seconds or jobs"),
    ] {
        let answer = door.get(&format!("/v1/plan?{query}")).await;

        let (status, _, named, code) = answer.error();
        let code = (status, named.as_deref(), code.as_str());
        assert_eq!(code, (400, Some(param), "invalid_value"), "{query}");
        assert!(answer.message().contains(advice), "{query}: {}", answer.message());
    }
    assert_eq!(door.fake.plans_asked_for(), []);
}

#[tokio::test]
async fn refusals_have_the_status_and_the_words_of_the_service() {
    let door = Door::open();
    let refused = async |query: &str| {
        let answer = door.get(&format!("/v1/plan?{query}")).await;
        let (status, _, _, code) = answer.error();
        (status, code, answer.header("retry-after").to_owned(), answer.message())
    };

    let (status, code, _, message) = refused("model=other").await;
    assert_eq!((status, code.as_str()), (404, "model_not_found"));
    assert!(message.contains("house/mini"), "{message}");
    let (status, code, _, message) = refused(&format!("jobs={NO_ROOM_JOBS}")).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    assert!(message.contains("no worker"), "{message}");
    let (status, code, retry, _) = refused(&format!("jobs={BUSY_JOBS}")).await;
    assert_eq!((status, code.as_str(), retry.as_str()), (429, "rate_limit_exceeded", "1"));
}
