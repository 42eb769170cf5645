//! Tests of [`super`]: the numbers of arXiv:2605.30351, recomputed by hand from
//! its shapes, as the report prints them.

use types::Tiles;

use super::{table::line, *};
use crate::presets::preset;

#[test]
fn videomla_report_prints_the_papers_numbers() {
    let report = plan("videomla-1.3b", 957.0 / 16.0, None);
    let table = report.table();

    for (name, dense, mla) in [
        ("per token, per layer", "6,144 B", "448 B"),
        ("per token, 30 layers", "184,320 B", "13,440 B"),
        ("chunk, 3 frames", "863 MB", "62.9 MB"),
        ("window, 7 frames", "2.01 GB", "147 MB"),
        ("window and chunk, 10 frames", "2.88 GB", "210 MB"),
        ("clip of Wan, 21 frames", "6.04 GB", "440 MB"),
        ("whole history, 240 frames", "69.0 GB", "5.03 GB"),
        ("  cross-attention", "94.4 MB", "94.4 MB"),
        ("VAE cache of 2 frames, as published", "1.89 GB", "1.89 GB"),
        ("transformer parameters", "1,418,996,800", "1,303,042,240"),
    ] {
        assert!(table.contains(&line(name, [dense, mla])), "{name} is not right in\n{table}");
    }
    assert!(table.contains("mla saves 92.7 % of this cache (13.7 times smaller)"), "{table}");
}

#[test]
fn seed_shape_counts_keys_and_values() {
    let report = plan("32x32x128", 60.0, None);

    assert_eq!(report.dense.as_ref().unwrap().token_bytes, 524_288);
    let table = report.table();
    assert!(table.contains("keys alone: 262,144 B per token"), "{table}");
    // The paper's ranks at this width: 224 of 8,192 numbers.
    assert!(table.contains("mla saves 97.3 % of this cache (36.6 times smaller)"), "{table}");
}

#[test]
fn wan_window_of_21_frames_includes_the_chunk() {
    let report = plan("wan-1.3b", 60.0, None);

    // 21 frames of 1,560 tokens, in the paper "about 6.0 GB".
    let (dense_bytes, mla_bytes) = (Some(6_038_323_200), Some(440_294_400));
    let window = Span { name: "window and chunk", frames: 21, dense_bytes, mla_bytes };
    assert!(report.spans.contains(&window), "{:?}", report.spans);
    // One slot to roll back to and one in generation beside six of the window.
    assert_eq!(report.held.per_job.cache_slots_bytes, 8 * 3 * 1560 * 184_320);
}

#[test]
fn attention_asked_for_is_the_one_held() {
    let own = plan("wan-1.3b", 5.0, None);
    let twin = plan("wan-1.3b", 5.0, Some(Kind::Mla));

    assert_eq!((own.dense.as_ref(), own.mla.as_ref()), (twin.dense.as_ref(), twin.mla.as_ref()));
    assert_eq!(own.held, own.dense.as_ref().unwrap().memory);
    assert_eq!(twin.held, own.mla.as_ref().unwrap().memory);
    assert!(twin.table().starts_with("wan-1.3b, mla (not the model's own)\n5 s of 832x480"));
}

#[test]
fn model_without_a_window_is_told_so() {
    let mut model = preset("wan-1.3b").unwrap();
    model.transformer.as_mut().unwrap().window = None;
    let report = report("teacher", &model, &request(81.0 / 16.0, None)).unwrap();

    assert_eq!((report.window, report.length.chunks, report.length.frames), (None, 1, 21));
    // One slot, and one to roll back to.
    assert_eq!(report.held.per_job.cache_slots_bytes, 2 * 21 * 1560 * 184_320);
    assert!(report.table().contains("its rows take one slot"));
}

#[test]
fn model_without_a_twin_has_one_column() {
    let mut model = preset("videomla-1.3b").unwrap();
    model.transformer.as_mut().unwrap().heads = 11;
    let alone = report("odd", &model, &request(5.0, None)).unwrap();

    assert_eq!((&alone.dense, alone.saved), (&None, None));
    assert!(alone.table().contains(&line("per token, per layer", ["-", "448 B"])));
    let refused = report("odd", &model, &request(5.0, Some(Kind::Dense)));
    assert_eq!(refused, Err(Error::NoCounterpart { heads: 11, dim: 1536 }));
}

#[test]
fn json_has_exact_bytes() {
    let json = serde_json::to_value(plan("videomla-1.3b", 60.0, None)).unwrap();

    assert_eq!(json["attention"], "mla");
    assert_eq!(json["length"]["surplus_pictures"], 9);
    assert_eq!(json["dense"]["row_bytes"], 6_144);
    assert_eq!(json["mla"]["token_bytes"], 13_440);
    // 1 sink and 6 recent frames of 1,560 tokens.
    assert_eq!(json["spans"][1]["mla_bytes"], 7 * 1560 * 13_440);
    assert_eq!(json["mla"]["memory"]["cross_attention_bytes"], 94_371_840);
    assert_eq!(json["vae_cache"][1]["convolutions"], 11);
    assert_eq!(json["published"]["vae_cache_bytes"], 2 * 944_286_720_u64);
    let (memory, sum) = (&json["held"], |name: &str| json["held"][name].as_u64().unwrap());
    assert_eq!(memory["total_bytes"], sum("shared_bytes") + sum("per_job_bytes"));
    let percent = json["saved"]["percent"].as_f64().unwrap();
    assert!((percent - 100.0 * (1.0 - 224.0 / 3072.0)).abs() < 1e-9);
}

#[test]
fn table_fits_a_terminal() {
    for name in presets::NAMES {
        let table = plan(name, 60.0, None).table();
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
}

fn plan(name: &str, seconds: f64, attention: Option<Kind>) -> Report {
    report(name, &preset(name).unwrap(), &request(seconds, attention)).unwrap()
}

/// A request for bf16 factors, one chunk to roll back.
fn request(seconds: f64, attention: Option<Kind>) -> Request {
    let tiles = Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 64 << 20 };
    let layout = Layout::bf16();
    let engine = Engine { layout, tiles, uncommitted_chunks_max: 1, finished_chunks_max: 2 };
    Request { seconds, size: None, attention, engine }
}
