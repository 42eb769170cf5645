//! Inspection reports what is there, and what is wrong, without failing.

use std::path::Path;

use checkpoint::{AttentionReport, Checkpoint, Ema, Part, PartReport, Source};

#[test]
fn the_embedded_model_is_described_whole() {
    let inspection = Checkpoint::open(mini(), Ema::Prefer).unwrap().inspect();

    assert_eq!(inspection.missing, []);
    assert_eq!(inspection.problems, [""; 0]);
    assert!(inspection.parts.iter().all(|part| part.problem.is_none()));
    let part = |wanted| inspection.parts.iter().find(|report| report.part == wanted).unwrap();
    let transformer = part(Part::Transformer);
    assert_eq!(transformer.parameters, 18_339_056);
    assert_eq!(transformer.files.len(), 3);
    assert_eq!(transformer.dtypes, [("BF16".to_owned(), transformer.tensors.len())].into());
    assert_eq!(transformer.sizes["heads"], 6);
    let Some(AttentionReport::Mla { cached: 56, kv_rank: 40, .. }) = inspection.attention else {
        panic!("{:?}", inspection.attention)
    };
    // The card gives the decoder 1.54 M parameters, the encoder's not counted.
    assert_eq!(part(Part::Vae).parameters / 10_000, 154);

    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["family"], "filmloom");
    assert_eq!(json["attention"]["kind"], "mla");
    assert_eq!(json["window"]["recent"], 21);
    assert_eq!(json["sampler"]["first_chunk_steps"], "10 even");
    assert_eq!(json["parts"][0]["part"], "text_encoder");
}

#[test]
fn one_broken_part_does_not_hide_the_others() {
    let source = mini();
    let names = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"];
    let mut files: Vec<(String, Vec<u8>)> = names
        .into_iter()
        .chain(["text_encoder/config.json", "text_encoder/model.safetensors"])
        .map(|name| (name.to_owned(), source.read(name).unwrap().to_vec()))
        .collect();
    files[1].1.truncate(100_000);

    let inspection = Checkpoint::open(Source::memory(files), Ema::Prefer).unwrap().inspect();

    assert_eq!(inspection.missing, [Part::Tokenizer, Part::Transformer]);
    let [text_encoder, vae]: &[PartReport; 2] = inspection.parts.as_slice().try_into().unwrap();
    assert_eq!((text_encoder.part, &text_encoder.problem), (Part::TextEncoder, &None));
    assert_eq!(vae.part, Part::Vae);
    assert_eq!(vae.parameters / 10_000, 154);
    let problem = vae.problem.as_deref().unwrap();
    assert!(problem.contains("vae/diffusion_pytorch_model.safetensors: is"), "{problem}");
}

#[test]
fn a_tokenizer_beyond_its_bound_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let file = std::fs::File::create(&path).unwrap();
    let checkpoint = Checkpoint::open(Source::folder(folder.path()), Ema::Prefer).unwrap();
    // A hole, which takes no room on the disk.
    file.set_len(256 << 20).unwrap();
    assert_eq!(checkpoint.tokenizer().unwrap().len(), 256 << 20);

    file.set_len((256 << 20) + 1).unwrap();

    let expected = format!(
        "{}: 268435457 bytes are absurd for a tokenizer, at most 268435456 are read: put the \
         model's own file there",
        path.display()
    );
    assert_eq!(checkpoint.tokenizer().unwrap_err().to_string(), expected);
    let [report] = checkpoint.inspect().parts.try_into().unwrap();
    assert_eq!(report.problem, Some(expected));
}

fn mini() -> Source {
    Source::folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/mini/weights"))
}
