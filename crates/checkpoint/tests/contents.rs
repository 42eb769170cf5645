//! A model is what its configuration and its tensors are, wherever they lie, and is
//! the same again when it was fetched.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod torch;

use std::{collections::BTreeMap, fs::File, time::SystemTime};

use checkpoint::{
    Blob, Blobs, Checkpoint, Contents, Digest, Dtype, Ema, Error, Library, Need, Part, Pinned,
    Source, TensorEntry, manifest,
};
use safetensors::{SafeTensors, serialize, tensor::TensorView};
use torch::{tensor_pickle, text_pickle, zip_of};
use types::{Model, ModelDigest, wan};

/// A change of this number is a change of what nodes agree on: change the form's
/// number in `canonical.rs` with it.
const EMBEDDED: &str = "0267f31c5cfcd475b51d2f238dde85ba114020bf7130e1ddf4b3b68ac0af2497";

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/mini/weights");
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const KV_DOWN: &str = "blocks.0.self_attn.kv_down.weight";
const INDEX: &str = "vae/diffusion_pytorch_model.safetensors.index.json";

#[test]
fn the_embedded_model_has_its_digest() {
    let contents = open(embedded()).contents().unwrap();

    assert_eq!(contents.digest.to_string(), EMBEDDED);
    contents.check().unwrap();
    let paths: Vec<&str> = contents.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "tokenizer/tokenizer.json",
            "transformer/config.json",
            "vae/config.json",
        ]
    );
}

#[test]
fn sharding_and_the_spelling_of_files_change_nothing() {
    let want = small().contents().unwrap();

    let mut files = small_files();
    split(&mut files);
    let config = String::from_utf8(files["vae/config.json"].clone()).unwrap();
    files.insert("vae/config.json".into(), config.replace(',', " ,\n").into_bytes());
    let found = memory(files).contents().unwrap();

    assert_eq!((found.digest, found.tensors), (want.digest, want.tensors));
}

#[test]
fn names_and_fusing_change_nothing_and_what_is_fetched_is_ours() {
    let (node, divided) = (Node::new(), memory(with_divided_rows()).library().unwrap());
    let (found, want) = (divided.contents(), open(embedded()).contents().unwrap());
    assert_eq!((found.digest, &found.tensors), (want.digest, &want.tensors));

    let need = Need { layers: Some(0..1), text: false, decoder: false };
    let opened = node.open(&divided, &need).open_transformer(Some(0..1)).unwrap();

    assert_eq!(opened.warnings, [""; 0], "nothing is matched again");
    assert!(opened.tensors.get(KV_DOWN, &[56, 384]).is_ok());
}

#[test]
fn a_bit_a_value_a_part_and_a_tokenizer_change_the_digest() {
    let digest = |files| memory(files).contents().unwrap().digest;
    let want = digest(small_files());
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = small_files();
        change(&mut files);
        digest(files)
    };
    let replaced = |path: &'static str, from: &'static str, to: &'static str| {
        changed(&move |files: &mut Files| {
            let text = String::from_utf8(files[path].clone()).unwrap();
            assert!(text.contains(from), "{path}");
            files.insert(path.into(), text.replace(from, to).into_bytes());
        })
    };

    let others = [
        changed(&|files| flip(files, "decoder.conv_in.bias")),
        changed(&|files| files.get_mut("tokenizer/tokenizer.json").unwrap().push(b' ')),
        changed(&|files| _ = files.remove("tokenizer/tokenizer.json")),
        replaced("model_index.json", "\"fps\": 16", "\"fps\": 15"),
        replaced("scheduler/scheduler_config.json", "\"shift\": 3", "\"shift\": 4"),
    ];

    for (place, other) in others.iter().enumerate() {
        assert_ne!(want, *other, "change {place}");
    }
    // The model does not use it.
    assert_eq!(want, changed(&|files| flip(files, "encoder.conv_in.bias")));
}

#[test]
fn the_moving_average_is_another_model_where_there_is_one() {
    let digest = |files: Files, ema| {
        let source = Source::memory(files);
        Checkpoint::open(source, ema).unwrap().contents().unwrap().digest
    };
    let (prefer, ignore) = (Ema::Prefer, Ema::Ignore);

    assert_eq!(digest(small_files(), prefer), digest(small_files(), ignore));
    assert_ne!(digest(torch_files(), prefer), digest(torch_files(), ignore));
}

#[test]
fn a_fetched_model_is_the_model() {
    let (node, library) = (Node::new(), open(embedded()).library().unwrap());
    let need = Need { layers: Some(0..8), text: true, decoder: true };
    let fetched = node.open(&library, &need);

    assert_eq!(fetched.model().unwrap(), open(embedded()).model().unwrap());
    assert_eq!(fetched.contents().unwrap(), *library.contents());
    assert_eq!(*fetched.tokenizer().unwrap(), *open(embedded()).tokenizer().unwrap());
    // Hashed again, out of the blobs.
    let again = fetched.library().unwrap();
    assert_eq!(again.contents(), library.contents());
}

#[test]
fn a_stage_needs_its_own_layers_only() {
    let (node, library) = (Node::new(), open(embedded()).library().unwrap());
    let need = Need { layers: Some(2..5), text: false, decoder: false };
    let fetched = node.open(&library, &need);

    let opened = fetched.open_transformer(Some(2..5)).unwrap();
    let shape = [1536, 384];
    let found = opened.tensors.get("blocks.3.ffn.0.weight", &shape).unwrap();
    let want = open(embedded()).open_transformer(None).unwrap().tensors;
    let want = want.get("blocks.3.ffn.0.weight", &shape).unwrap();
    assert_eq!((found.dtype, &*found.bytes), (want.dtype, &*want.bytes));

    let error = fetched.open_transformer(Some(2..6)).unwrap_err();
    assert!(matches!(error, Error::NoShard { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("blocks.5.") && error.contains(EMBEDDED), "{error}");
    for error in [
        fetched.open_vae().unwrap_err(),
        fetched.open_text_projection().unwrap_err(),
        fetched.open_text_encoder().unwrap_err(),
    ] {
        assert!(matches!(error, Error::NoShard { .. }), "{error}");
    }
}

#[test]
fn a_blob_that_was_cut_off_is_not_computed_with() {
    let (node, library) = (Node::new(), open(embedded()).library().unwrap());
    let need = Need { layers: Some(2..3), text: false, decoder: false };
    let fetched = node.open(&library, &need);
    let entry = library.contents().tensor(Part::Transformer, "blocks.2.ffn.0.weight").unwrap();
    let path = node.folder.path().join(entry.digest.to_string());
    File::options().write(true).open(path).unwrap().set_len(entry.bytes - 1).unwrap();

    let error = fetched.open_transformer(Some(2..3)).unwrap_err().to_string();

    assert!(error.contains(&entry.digest.to_string()), "{error}");
    assert!(error.contains("fetch it again"), "{error}");
}

#[test]
fn the_text_side_and_the_decoder_open_alone() {
    let (text, decoder) = (Node::new(), Node::new());
    let library = open(embedded()).library().unwrap();

    let need = Need { layers: None, text: true, decoder: false };
    let fetched = text.open(&library, &need);
    assert!(fetched.open_text_projection().is_ok() && fetched.open_text_encoder().is_ok());
    assert!(fetched.tokenizer().is_ok() && fetched.open_vae().is_err());

    let need = Need { layers: None, text: false, decoder: true };
    let fetched = decoder.open(&library, &need);
    assert!(fetched.open_vae().is_ok() && fetched.tokenizer().is_err());
}

#[test]
fn a_list_of_another_model_is_refused_before_a_part_is_opened() {
    let (node, library) = (Node::new(), small().library().unwrap());
    let model = small().model().unwrap();
    let need = Need { layers: None, text: false, decoder: true };
    let refused = |change: &dyn Fn(&mut Contents)| {
        let mut contents = library.contents().clone();
        change(&mut contents);
        let source = Source::fetched(contents, node.fetch(&library, &model, &need))?;
        Checkpoint::open(source, Ema::Prefer)
    };
    assert!(refused(&|_| ()).is_ok());

    let other_tensor = refused(&|contents| contents.tensors[0].digest = Digest([7; 32]));
    assert!(matches!(other_tensor, Err(Error::OtherModel { .. })));
    let fewer = refused(&|contents| _ = contents.tensors.pop());
    assert!(matches!(fewer, Err(Error::OtherModel { .. })));
    let longer = refused(&|contents| contents.tensors[0].bytes += 1);
    assert!(matches!(longer, Err(Error::List { .. })));
}

#[test]
fn parts_without_a_configuration_are_known_by_their_tensors() {
    let entry = |(name, shape): (String, Vec<usize>)| {
        let bytes = 2 * shape.iter().product::<usize>() as u64;
        let (part, dtype, digest) = (Part::Vae, Dtype::Bf16, Digest::of(name.as_bytes()));
        TensorEntry { part, name, dtype, shape, bytes, digest }
    };
    let mut tensors: Vec<_> = manifest::vae_decoder(&wan::vae()).into_iter().map(entry).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let node = Node::new();
    let open = |digest| {
        let (tensors, files) = (tensors.clone(), Vec::new());
        let pinned = node.blobs.pin([], SystemTime::UNIX_EPOCH);
        let source = Source::fetched(Contents { digest, tensors, files }, pinned).unwrap();
        Checkpoint::open(source, Ema::Prefer)
    };
    let Err(Error::OtherModel { found, .. }) = open(ModelDigest([0; 32])) else {
        panic!("a digest is no other one");
    };

    let fetched = open(found).unwrap();

    assert!(fetched.has(Part::Vae) && !fetched.has(Part::TextEncoder));
    assert_eq!(fetched.vae().unwrap(), wan::vae());
    assert!(matches!(fetched.open_vae(), Err(Error::NoShard { .. })));
}

#[test]
fn what_is_not_of_the_model_is_not_handed_out() {
    let library = small().library().unwrap();
    let entry = &library.contents().tensors[0];
    let tensor = library.read(&entry.blob()).unwrap().unwrap();
    assert_eq!(Digest::of(&tensor), entry.digest);

    let longer = Blob { bytes: entry.bytes + 1, ..entry.blob() };
    let foreign = Blob { digest: Digest::of(b"foreign"), bytes: 7 };
    for blob in [longer, foreign] {
        assert!(library.read(&blob).unwrap().is_none());
    }
    let layers = Need { layers: Some(0..1), text: false, decoder: false };
    let model = small().model().unwrap();
    let error = library.contents().needed(&model, &layers).unwrap_err();
    assert!(matches!(error, Error::NoPart { part: Part::Transformer, .. }), "{error}");
}

/// A folder of blobs.
struct Node {
    blobs: Blobs,
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { blobs: Blobs::open(folder.path(), 1 << 30).unwrap(), folder }
    }

    /// Fetches what is needed, as a node would.
    fn fetch(&self, library: &Library, model: &Model, need: &Need) -> Pinned {
        let needed = library.contents().needed(model, need).unwrap();
        let digests = needed.iter().map(|blob| blob.digest);
        let pinned = self.blobs.pin(digests, SystemTime::UNIX_EPOCH);
        for blob in self.blobs.missing(&needed).unwrap() {
            let content = library.read(&blob).unwrap().unwrap();
            let mut incoming = self.blobs.receive(blob).unwrap();
            content.chunks(1 << 16).for_each(|part| incoming.write(part).unwrap());
            incoming.finish().unwrap();
        }
        pinned
    }

    /// What is needed of the embedded model, fetched.
    fn open(&self, library: &Library, need: &Need) -> Checkpoint {
        let model = open(embedded()).model().unwrap();
        let pinned = self.fetch(library, &model, need);
        open(Source::fetched(library.contents().clone(), pinned).unwrap())
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn embedded() -> Source {
    Source::folder(FOLDER)
}

fn open(source: Source) -> Checkpoint {
    Checkpoint::open(source, Ema::Prefer).unwrap()
}

/// A model of the embedded one's tokenizer and decoder.
fn small() -> Checkpoint {
    memory(small_files())
}

fn small_files() -> Files {
    let paths = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
        "vae/config.json",
        VAE,
    ];
    let read = |path: &str| (path.to_owned(), std::fs::read(format!("{FOLDER}/{path}")).unwrap());
    paths.map(read).into()
}

/// The embedded model in one transformer's file, where a matrix of the first layer is
/// two others.
fn with_divided_rows() -> Files {
    let listed = open(embedded()).contents().unwrap().files;
    let mut paths: Vec<String> = listed.into_iter().map(|file| file.path).collect();
    paths.extend([VAE.to_owned(), "text_encoder/model.safetensors".to_owned()]);
    let read = |path: String| (path.clone(), std::fs::read(format!("{FOLDER}/{path}")).unwrap());
    let mut files: Files = paths.into_iter().map(read).collect();

    let shard = |number| {
        let name = format!("diffusion_pytorch_model-0000{number}-of-00003.safetensors");
        std::fs::read(format!("{FOLDER}/transformer/{name}")).unwrap()
    };
    let shards = [1, 2, 3].map(shard);
    let mut tensors = BTreeMap::new();
    for shard in &shards {
        tensors.extend(SafeTensors::deserialize(shard).unwrap().tensors());
    }
    let whole = tensors.remove(KV_DOWN).unwrap();
    let (latents, keys) = whole.data().split_at(whole.data().len() / 56 * 40);
    for (name, rows, data) in [("latents", 40, latents), ("keys", 16, keys)] {
        let view = TensorView::new(whole.dtype(), vec![rows, 384], data).unwrap();
        tensors.insert(format!("blocks.0.self_attn.{name}"), view);
    }
    let file = serialize(tensors, None).unwrap();
    files.insert("transformer/diffusion_pytorch_model.safetensors".into(), file);
    files
}

fn memory(files: Files) -> Checkpoint {
    open(Source::memory(files))
}

/// Changes the last bit of a tensor of the decoder's file.
fn flip(files: &mut Files, tensor: &str) {
    let file = files.get_mut(VAE).unwrap();
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data = tensors.tensor(tensor).unwrap().data().as_ptr_range();
    let place = data.end as usize - file.as_ptr() as usize - 1;
    file[place] ^= 1;
}

/// Shares the decoder's tensors out over two files and an index.
fn split(files: &mut Files) {
    let whole = files.remove(VAE).unwrap();
    let whole = SafeTensors::deserialize(&whole).unwrap();
    let mut shards: [BTreeMap<String, TensorView<'_>>; 2] = Default::default();
    let mut index = BTreeMap::new();
    for (place, (name, view)) in whole.tensors().into_iter().enumerate() {
        index.insert(name.clone(), format!("{}.safetensors", place % 2));
        shards[place % 2].insert(name, view);
    }
    for (place, shard) in shards.into_iter().enumerate() {
        files.insert(format!("vae/{place}.safetensors"), serialize(shard, None).unwrap());
    }
    let index = serde_json::json!({ "weight_map": index }).to_string();
    files.insert(INDEX.into(), index.into_bytes());
}

/// A text encoder in a training checkpoint: weights and their moving average.
fn torch_files() -> Files {
    let config = serde_json::json!({
        "model_type": "umt5", "vocab_size": 2, "d_model": 2, "d_kv": 1, "d_ff": 2,
        "num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 2
    });
    let files = [("text_encoder/config.json".to_owned(), config.to_string().into_bytes())];
    let encoder = memory(files.clone().into()).text_encoder().unwrap();
    let manifest = manifest::text_encoder(&encoder);
    let dictionary = |first: u8| {
        let tensors = manifest.iter().map(|(name, shape)| tensor_pickle(name, shape, first));
        [b"}(".to_vec(), tensors.collect::<Vec<_>>().concat(), b"u".to_vec()].concat()
    };
    let pickle = [
        b"\x80\x02}(".to_vec(),
        text_pickle("generator"),
        dictionary(0),
        text_pickle("generator_ema"),
        dictionary(1),
        b"u.".to_vec(),
    ];
    let storage: Vec<u8> = (0..5u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let archive = zip_of(&[("x/data.pkl", &pickle.concat()), ("x/data/0", &storage)]);
    let mut files = Files::from(files);
    files.insert("text_encoder/model.pt".into(), archive);
    files
}
