//! What a request for a video may look like, and what is said of every other one.

use api::{Access, NewVideo, ScheduledPrompt, Size};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

use crate::client::{Answer, Door};

const BOUNDARY: &str = "b0undary";

#[tokio::test]
async fn a_prompt_is_enough_and_nothing_else_is_made_up() {
    let door = Door::open();

    let answer = door.ask("application/json; charset=utf-8", r#"{"prompt": "a ball"}"#).await;

    assert_eq!(answer.status, 200);
    let prompt = "a ball".to_owned();
    assert_eq!(door.fake.asked_for(), [NewVideo { prompt, ..NewVideo::default() }]);
}

#[tokio::test]
async fn null_is_as_if_it_were_not_sent() {
    let door = Door::open();

    let body = json!({ "prompt": "a ball", "seed": null, "negative_prompt": null, "size": null });
    let answer = door.ask("application/json", body.to_string()).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(door.fake.asked_for()[0].seed, None);
}

#[tokio::test]
async fn every_wrong_value_is_told_with_its_field_and_what_would_be_right() {
    let door = Door::open();
    for (body, param, advice) in [
        (json!({}), "prompt", "give a text"),
        (json!({ "prompt": "" }), "prompt", "give a text"),
        (json!({ "prompt": " \n" }), "prompt", "give a text"),
        (json!({ "prompt": 7 }), "prompt", "put it in quotes"),
        (json!({ "prompt": null }), "prompt", "give a text"),
        (json!({ "prompt": "p".repeat(8_001) }), "prompt", "at most 8000"),
        (with("model", json!("m".repeat(201))), "model", "at most 200"),
        (with("model", json!(["m"])), "model", "put it in quotes"),
        (with("model", json!("other")), "model", "ask for house/mini"),
        (with("seconds", json!(0)), "seconds", "above 0"),
        (with("seconds", json!(-1)), "seconds", "above 0"),
        (with("seconds", json!("nan")), "seconds", "above 0"),
        (with("seconds", json!("inf")), "seconds", "above 0"),
        (with("seconds", json!(86_401)), "seconds", "at most 86400"),
        (with("seconds", json!([60])), "seconds", "such as 60"),
        (with("seconds", json!("a minute")), "seconds", "such as 60"),
        (with("size", json!("832*480")), "size", "such as 832x480"),
        (with("size", json!("0x480")), "size", "such as 832x480"),
        (with("size", json!({ "width": 832 })), "size", "such as 832x480"),
        (with("seed", json!(-1)), "seed", "from 0 to 18446744073709551615"),
        (with("seed", json!(1.5)), "seed", "whole number"),
        (with("seed", json!("18446744073709551616")), "seed", "whole number"),
        (with("seed", json!(true)), "seed", "whole number"),
        (with("fps", json!(0)), "fps", "from 1 to 240"),
        (with("fps", json!(241)), "fps", "from 1 to 240"),
        (with("priority", json!(11)), "priority", "from -10 to 10"),
        (with("priority", json!(-11)), "priority", "from -10 to 10"),
        (with("user", json!("")), "user", "leave it out"),
    ] {
        let answer = door.ask("application/json", body.to_string()).await;

        assert_refused(&answer, Some(param), advice, &body.to_string());
    }
    assert_eq!(door.fake.asked_for(), [], "none of them came through");
}

#[tokio::test]
async fn every_field_that_there_is_not_is_told_with_what_to_give_instead() {
    let door = Door::open();
    for (body, param, advice) in [
        (with("input_reference", json!("x")), "input_reference", "not supported"),
        (with("negative_prompt", json!("x")), "negative_prompt", "not supported; leave it out"),
        (with("width", json!(832)), "width", "not supported; give `size`"),
        (with("num_frames", json!(81)), "num_frames", "not supported; give `seconds`"),
        (with("secs", json!(1)), "secs", "the fields are prompt, model"),
        (with("second", json!(1)), "second", "did you mean `seconds`?"),
        (with("colour", Value::Null), "colour", "leave it out"),
        (with("Seed", json!(1)), "Seed", "did you mean `seed`?"),
    ] {
        let answer = door.ask("application/json", body.to_string()).await;

        assert_refused(&answer, Some(param), advice, &body.to_string());
    }
    assert_eq!(door.fake.asked_for(), [], "none of them came through");
}

#[tokio::test]
async fn every_wrong_schedule_is_told_with_the_place_in_it() {
    let door = Door::open();
    let schedule = |list: Value| with("prompt_schedule", list);
    for (body, param, advice) in [
        (schedule(json!("[")), "prompt_schedule", "give a list such as"),
        (schedule(json!({})), "prompt_schedule", "give a list such as"),
        (schedule(json!("[] []")), "prompt_schedule", "end it there"),
        (schedule(json!([{ "at_seconds": 1 }])), "prompt_schedule[0]", "missing field `prompt`"),
        (
            schedule(json!([{ "at_seconds": 1, "prompt": "p" }, { "at_seconds": "x" }])),
            "prompt_schedule[1].at_seconds",
            "give a list such as",
        ),
        (
            schedule(json!([{ "at_seconds": 1, "prompt": "p", "seed": 1 }])),
            "prompt_schedule[0].seed",
            "unknown field `seed`",
        ),
        (
            schedule(json!([{ "at_seconds": 0, "prompt": "p" }])),
            "prompt_schedule[0].at_seconds",
            "above 0",
        ),
        (
            schedule(
                json!([{ "at_seconds": 2, "prompt": "p" }, { "at_seconds": 2, "prompt": "q" }]),
            ),
            "prompt_schedule[1].at_seconds",
            "grow from prompt to prompt",
        ),
        (
            schedule(json!([{ "at_seconds": 2, "prompt": "" }])),
            "prompt_schedule[0].prompt",
            "give a text",
        ),
        (
            schedule(json!(vec![json!({ "at_seconds": 2, "prompt": "p" }); 65])),
            "prompt_schedule",
            "at most 64",
        ),
    ] {
        let answer = door.ask("application/json", body.to_string()).await;

        assert_refused(&answer, Some(param), advice, &body.to_string());
    }
    assert_eq!(door.fake.asked_for(), [], "none of them came through");
}

#[tokio::test]
async fn every_broken_body_is_told_what_is_wrong_with_it() {
    let door = Door::open();
    let many: Map<String, Value> = (0..65).map(|n| (format!("f{n}"), json!(0))).collect();
    for (body, advice) in [
        (String::new(), "not a JSON object"),
        ("[]".to_owned(), "expected an object such as"),
        ("\"prompt\"".to_owned(), "expected an object such as"),
        ("{\"prompt\": \"p\"".to_owned(), "EOF"),
        ("{\"prompt\": \"p\"} x".to_owned(), "trailing characters"),
        (format!("{{\"prompt\": {}", "[".repeat(100_000)), "not a JSON object"),
        (json!(many).to_string(), "more than 64 fields"),
    ] {
        let answer = door.ask("application/json", body).await;

        assert_refused(&answer, None, advice, advice);
    }
    let twice = door.ask("application/json", r#"{"prompt": "p", "prompt": "q"}"#).await;
    assert_refused(&twice, Some("prompt"), "give it once", "twice");
}

#[tokio::test]
async fn every_broken_form_is_told_what_is_wrong_with_it() {
    let door = Door::open();
    let part = |name: &str, text: &str| {
        format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let end = format!("--{BOUNDARY}--\r\n");
    let prompt = part("prompt", "p");
    for (body, param, advice) in [
        (end.clone(), Some("prompt"), "`prompt` is missing"),
        (format!("{prompt}{prompt}{end}"), Some("prompt"), "give it once"),
        (format!("{prompt}{}{end}", part("seed", "")), Some("seed"), "whole number"),
        (
            format!("{prompt}{}{end}", part("input_reference", "")),
            Some("input_reference"),
            "not supported",
        ),
        (
            format!("{prompt}{}{end}", part("prompt_schedule[][prompt]", "p")),
            Some("prompt_schedule[][prompt]"),
            "give `prompt_schedule` once, as JSON text",
        ),
        (prompt.clone(), None, "send it whole"),
        ("no form".to_owned(), None, "send it whole"),
    ] {
        let answer = door.ask(&form_type(), body.clone()).await;

        assert_refused(&answer, param, advice, &body);
    }
    let empty = part("prompt", "");
    let raw = [empty.trim_end().as_bytes(), b"\r\n\r\n\xff\r\n", end.as_bytes()];
    let answer = door.ask(&form_type(), raw.concat()).await;
    assert_refused(&answer, Some("prompt"), "not UTF-8", "no text");
    let answer = door.ask("multipart/form-data", prompt).await;
    assert_refused(&answer, None, "boundary", "no boundary");
}

#[tokio::test]
async fn no_answer_repeats_a_large_request() {
    let door = Door::open();
    let large = "é".repeat(100_000);
    for body in [
        json!(large),
        json!({ "prompt": "p", &large: 1 }),
        json!({ "prompt": "p", "seed": large }),
        json!({ "prompt": "p", "prompt_schedule": large }),
        json!({ "prompt": "p", "prompt_schedule": [{ "at_seconds": large }] }),
        json!({ "prompt": "p", "prompt_schedule": [{ &large: 1 }] }),
    ] {
        let answer = door.ask("application/json", body.to_string()).await;

        assert_eq!(answer.status, 400);
        assert!(answer.body.len() < 1_000, "{} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn other_content_types_are_named_with_the_right_ones() {
    let door = Door::open();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let answer = door.ask(content_type, r#"{"prompt": "p"}"#).await;

        let class = "invalid_request_error".to_owned();
        let code = "unsupported_media_type".to_owned();
        assert_eq!(answer.error(), (415, class, None, code));
        assert!(answer.message().contains("send application/json"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read_further() {
    let door = Door::open();
    let part = Bytes::from(vec![b' '; 64 * 1024]);
    for content_type in ["application/json".to_owned(), form_type()] {
        // Without an end: it must be refused before that.
        let endless = stream::repeat_with({
            let part = part.clone();
            move || Ok::<_, std::io::Error>(part.clone())
        });
        let answer = door.ask(&content_type, Body::from_stream(endless)).await;

        let class = "invalid_request_error".to_owned();
        assert_eq!(answer.error(), (413, class, None, "too_large".to_owned()));
        assert!(answer.message().contains("at most 1048576 bytes"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_limit_of_a_body_is_exact_to_the_byte() {
    let door = Door::open();
    for (bytes, status) in [(1_048_576, 200), (1_048_577, 413)] {
        let prompt = r#"{"prompt": "p"}"#;
        let body = prompt.to_owned() + &" ".repeat(bytes - prompt.len());
        assert_eq!(door.ask("application/json", body).await.status, status, "{bytes}");
    }
}

#[tokio::test]
async fn a_full_queue_gives_an_estimate() {
    let door = Door::new(Access::Insecure);
    for _ in 0..crate::fake::QUEUE_MAX {
        door.new_video().await;
    }

    let answer = door.ask("application/json", r#"{"prompt": "p"}"#).await;

    let (class, code) = ("rate_limit_error".to_owned(), "rate_limit_exceeded".to_owned());
    assert_eq!(answer.error(), (429, class, None, code));
    assert_eq!(answer.header("retry-after"), "90");
    assert!(answer.message().contains("about 90 s"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_form_and_an_object_mean_the_same(new in new_video()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let door = Door::open();
        let object = Value::Object(object(&new)).to_string();
        let texts = Value::Object(texts(&new)).to_string();

        let answers = runtime.block_on(async {
            [
                door.ask("application/json", object).await,
                door.ask("application/json", texts).await,
                door.ask(&form_type(), form(&new)).await,
            ]
        });

        for answer in answers {
            prop_assert_eq!(answer.status, 200, "{:?}", answer);
        }
        prop_assert_eq!(door.fake.asked_for(), [new.clone(), new.clone(), new]);
    }
}

fn assert_refused(answer: &Answer, param: Option<&str>, advice: &str, of: &str) {
    let (class, code) = ("invalid_request_error".to_owned(), "invalid_value".to_owned());
    assert_eq!(answer.error(), (400, class, param.map(str::to_owned), code), "{of}: {answer:?}");
    assert!(answer.message().contains(advice), "{of}: {}", answer.message());
}

/// A request with this field besides its prompt.
fn with(name: &str, value: Value) -> Value {
    json!({ "prompt": "p", name: value })
}

fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// The fields as JSON values.
fn object(new: &NewVideo) -> Map<String, Value> {
    let all = json!({
        "prompt": new.prompt,
        "model": new.model,
        "seconds": new.seconds,
        "size": new.size.map(|size| size.to_string()),
        "seed": new.seed,
        "fps": new.fps,
        "prompt_schedule": new.prompt_schedule,
        "priority": new.priority,
        "user": new.user,
    });
    let Value::Object(mut fields) = all else { unreachable!() };
    fields.retain(|_, value| !value.is_null());
    fields
}

/// The fields as texts.
fn texts(new: &NewVideo) -> Map<String, Value> {
    let text = |value: Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Value::String(text)
    };
    object(new).into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn form(new: &NewVideo) -> String {
    let mut form = String::new();
    for (name, text) in texts(new) {
        let text = text.as_str().unwrap();
        form += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        form += &format!("{text}\r\n");
    }
    form + &format!("--{BOUNDARY}--\r\n")
}

fn new_video() -> impl Strategy<Value = NewVideo> {
    let prompt = || "[^\0]{0,40}[a-zé\u{1f600}\"\\\\]";
    let quarters = || (1_u32..4_000).prop_map(|quarters| f64::from(quarters) / 4.0);
    let schedule = vec((1_u32..100, prompt()), 0..5).prop_map(|prompts| {
        let mut at_seconds = 0.0;
        let prompts = prompts.into_iter().map(|(quarters, prompt)| {
            at_seconds += f64::from(quarters) / 4.0;
            ScheduledPrompt { at_seconds, prompt }
        });
        prompts.collect::<Vec<_>>()
    });
    let size = (1_u32..5_000, 1_u32..5_000).prop_map(|(width, height)| Size { width, height });
    let fields = (
        prompt(),
        option::of(Just(crate::fake::MODEL.to_owned())),
        option::of(quarters()),
        option::of(size),
        option::of(any::<u64>()),
        option::of(1_u32..=240),
        option::of(schedule),
        option::of(-10_i8..=10),
        option::of("[a-z]{1,9}"),
    );
    fields.prop_map(|(prompt, model, seconds, size, seed, fps, prompt_schedule, priority, user)| {
        NewVideo { prompt, model, seconds, size, seed, fps, prompt_schedule, priority, user }
    })
}
