//! How busy workers and links are, and what that means for whole videos.

use super::*;
use crate::{memory::Size, presets::preset};

#[test]
fn loads_count_every_run_decoding_and_what_is_sent() {
    let mut request = request(3, 8);
    let work = Work { hidden_bytes: 1_000, velocity_bytes: 500, x0_bytes: 100, ..request.work };
    (request.work, request.objective) = (work, jobs(8));
    request.links = Links::uniform(3, Link { bytes_per_second: 1e3, latency_seconds: 0.5 });
    request.workers[2].speed.decode_seconds = Some(2.0);
    let placement = Placement { decoder: 2, ..placement(&[(0, 3), (1, 5)]) };

    let prediction = predict(&request, &placement).unwrap();

    // Four denoise runs and a commit through five layers of a second.
    assert_eq!(prediction.seconds_per_chunk, 25.0);
    let load = |worker, compute_seconds: f64| WorkerLoad {
        worker,
        compute_seconds,
        busy_share: compute_seconds / 25.0,
    };
    assert_eq!(prediction.workers, [load(0, 15.0), load(1, 25.0), load(2, 2.0)]);
    let hop = |from, to, carries, messages, bytes, seconds, busy: f64| HopLoad {
        from,
        to,
        carries,
        messages,
        bytes,
        seconds,
        busy_share: busy / 25.0,
    };
    let hops = [
        hop(0, 1, Carries::Hidden, 5, 5_000, 7.5, 5.0),
        hop(1, 0, Carries::Velocity, 4, 2_000, 4.0, 2.0),
        hop(0, 2, Carries::Clean, 1, 100, 0.6, 0.1),
    ];
    assert_eq!(prediction.hops, hops);
}

#[test]
fn hidden_states_of_a_bf16_class_are_half_as_large_on_their_way() {
    let mut request = request(2, 8);
    request.work.hidden_bytes = 1_000;
    let halves = placement(&[(0, 4), (1, 4)]);
    let whole = predict(&request, &halves).unwrap();
    request.workers.iter_mut().for_each(|worker| worker.residual = Dtype::Bf16);

    let half = predict(&request, &halves).unwrap();

    assert_eq!((whole.hops[0].bytes, half.hops[0].bytes), (5_000, 2_500));
    // Four passes and the commit, half a second less each.
    assert_eq!(whole.chunk_seconds_plain - half.chunk_seconds_plain, 2.5);
    // Look-ahead saves half a commit, four seconds: the hops may cost less than that.
    assert_eq!(plan(&request).unwrap().placement.stages.len(), 2);
    request.workers.iter_mut().for_each(|worker| worker.residual = Dtype::F32);
    assert_eq!(plan(&request).unwrap().placement.stages.len(), 1);
}

#[test]
fn one_worker_sends_nothing() {
    let prediction = predict(&request(1, 8), &placement(&[(0, 8)])).unwrap();

    assert_eq!(prediction.hops, []);
}

#[test]
fn video_is_its_first_chunk_and_what_follows() {
    let mut request = request(2, 8);
    request.work.first_chunk = Runs { passes: 10, runs: 10 };
    request.workers[0].speed.text_seconds = Some(3.0);
    request.objective = jobs(2);

    let prediction = predict(&request, &placement(&[(0, 4), (1, 4)])).unwrap();

    // Alone 36 s a chunk; two jobs 20 s, and 44 s between their first ones.
    assert_eq!((prediction.chunk_seconds, prediction.seconds_per_chunk), (36.0, 20.0));
    assert_eq!(prediction.videos_seconds(1, 3), 3.0 + 80.0 + 2.0 * 36.0);
    assert_eq!(prediction.videos_seconds(2, 3), 3.0 + 80.0 + 44.0 + 4.0 * 20.0);
    assert_eq!(prediction.videos_seconds(1, 1), prediction.first_chunk_seconds);
}

#[test]
fn prediction_is_compared_for_the_jobs_that_were_open() {
    let mut request = request(2, 8);
    request.objective = jobs(4);

    let prediction = predict(&request, &placement(&[(0, 4), (1, 4)])).unwrap();

    let accuracy = prediction.beside(1, 30.0);
    assert_eq!((accuracy.predicted_seconds, accuracy.error_percent().round()), (36.0, 20.0));
    assert_eq!(prediction.beside(3, 25.0).predicted_seconds, 20.0);
    assert_eq!(prediction.beside(3, 25.0).error_percent().round(), -20.0);
}

#[test]
fn times_are_as_measured_at_the_measured_size() {
    for name in ["wan-14b", "wan-1.3b", "videomla-1.3b"] {
        let model = preset(name).unwrap();
        let own = Shape {
            size: Size { width: model.video.width, height: model.video.height },
            video_frames: 21,
        };
        assert_eq!(Scale::between(&model, own, own).unwrap(), Scale::MEASURED, "{name}");
    }
}

#[test]
fn layers_grow_faster_than_pixels_and_a_prompt_not_at_all() {
    let model = preset("videomla-1.3b").unwrap();
    let shape = |width, height| Shape { size: Size { width, height }, video_frames: 21 };

    let scale = Scale::between(&model, shape(832, 480), shape(1_664, 960)).unwrap();

    assert_eq!(scale.pixels, 4.0);
    assert!((4.0..16.0).contains(&scale.layer), "{scale:?}");
    let speed = Speed { decode_seconds: Some(2.0), text_seconds: Some(3.0), ..worker(0).speed };
    let scaled = speed.scaled(scale);
    assert_eq!((scaled.decode_seconds, scaled.text_seconds), (Some(8.0), Some(3.0)));
    assert_eq!(scaled.layer_seconds, scale.layer);
    assert!(Scale::between(&model, shape(832, 480), shape(833, 480)).is_err());
}
