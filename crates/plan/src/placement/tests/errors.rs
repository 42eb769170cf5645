//! Requests that have no plan, and what is said of them.

use super::*;

/// A change that makes a request contradict itself, and a part of the message.
type Case = (fn(&mut Request), &'static str);

#[test]
fn contradictions_are_named_with_their_numbers() {
    let refused = |change: fn(&mut Request)| {
        let mut request = request(2, 8);
        change(&mut request);
        plan(&request).unwrap_err().to_string()
    };

    let cases: [Case; 11] = [
        (|r| r.workers.clear(), "there is no worker to place layers on"),
        (|r| r.work.layers = 0, "a model of 0 layers cannot be placed"),
        (|r| r.work.later_chunks.runs = 3, "3 runs in 4 passes are no chunk"),
        (|r| r.work.first_chunk = Runs { passes: 0, runs: 0 }, "0 runs in 0 passes"),
        (|r| r.links = Links::none(3), "links between 3 workers do not belong to a cluster of 2"),
        (
            |r| r.workers[1].speed.layer_seconds = 0.0,
            "b's time per layer in seconds is 0, which cannot be measured",
        ),
        (
            |r| r.workers[0].speed.decode_seconds = Some(f64::NAN),
            "a's time of decoding in seconds is NaN",
        ),
        (
            |r| {
                let link = Link { bytes_per_second: 0.0, latency_seconds: 0.0 };
                r.links = Links::uniform(2, link);
            },
            "the link from a to b has a bandwidth in bytes a second of 0",
        ),
        (
            |r| r.workers[0].limits.layers = Some(4..9),
            "a is pinned to layers 4..9 of a model that has 0..8",
        ),
        (
            |r| {
                r.workers[0].limits.layers = Some(0..5);
                r.workers[1].limits.layers = Some(4..8);
            },
            "a and b are both pinned to layer 4: take one of the pins back",
        ),
        (
            |r| {
                r.workers[1].limits.layers = Some(0..5);
                r.workers[1].memory_bytes = 49;
            },
            "b is pinned to 5 layers, but its memory and limits allow 4, 1 B short",
        ),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn pins_of_two_classes_need_leave_to_mix() {
    let mut request = request(2, 8);
    request.workers[0].limits.layers = Some(0..4);
    request.workers[1].limits.layers = Some(4..8);
    request.workers[1].class = "cuda-bf16".into();

    assert_eq!(
        plan(&request).unwrap_err().to_string(),
        "a is of class cpu-f32, but b, which is pinned too, of cuda-bf16: unpin one of them, \
         since a video stays in one class"
    );
    request.classes = Classes::Mixed;
    assert_eq!(plan(&request).unwrap().placement.stages.len(), 2);
}

#[test]
fn model_that_fits_nowhere_is_told_with_all_bytes() {
    let mut request = request(2, 8);
    request.work.footprint.stage_bytes = 5;
    request.work.footprint.text_bytes = 1;
    request.workers[0].memory_bytes = 46;
    request.workers[1].memory_bytes = 26;

    let error = plan(&request).unwrap_err();

    let (layers, layer_bytes, need_bytes, usable_bytes, placeable) = (8, 10, 81, 72, 6);
    let (names, short_bytes) = (vec!["a".to_owned(), "b".to_owned()], 20);
    let expected = Error::TooLarge {
        layers,
        layer_bytes,
        need_bytes,
        usable_bytes,
        placeable,
        names,
        short_bytes,
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "8 layers of 10 B a layer and job state need 81 B, but there are 72 B and room for 6 of \
         them on a and b: 20 B are short; add workers or memory, or run fewer jobs"
    );
}

#[test]
fn workers_that_cannot_reach_each_other_are_no_chain() {
    let mut request = request(2, 8);
    for worker in &mut request.workers {
        worker.memory_bytes = 50;
    }
    request.links = Links::none(2);

    assert_eq!(plan(&request), Err(Error::NoChain { layers: 8, placeable: 10 }));
}

#[test]
fn cluster_without_decoder_or_text_side_is_named() {
    let mut request = request(2, 8);
    request.work.footprint.decoder_bytes = 2_000;
    request.workers[1].memory_bytes = 1_400;
    let no_room = Error::NoRoom { what: "decode", name: "b".to_owned(), short_bytes: 600 };
    assert_eq!(plan(&request), Err(no_room));
    request.work.footprint.decoder_bytes = 0;
    for worker in &mut request.workers {
        worker.speed.text_seconds = None;
    }
    assert_eq!(plan(&request), Err(Error::Unable { what: "encode text" }));
}
