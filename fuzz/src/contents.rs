//! What a node asks for of a model, and what it is told a model consists of.

use std::{collections::BTreeMap, sync::OnceLock, time::SystemTime};

use checkpoint::{
    Blob, Blobs, Checkpoint, Contents, Digest, Ema, FileEntry, Library, Need, Part, Source,
    TensorEntry,
};
use prost::Message;
use proto::{
    control,
    generated::blob::{self as wire, manifest_entry::Kind, tensor::Of},
};
use tempfile::TempDir;
use types::ModelDigest;
use worker::listing::{ENTRY_BYTES_MAX, Listing};

use crate::{
    Target,
    frames::{decoded, framed, messages},
    mutate::Shape,
};

/// A request for a blob, or for a model's list.
pub(crate) const BLOB_REQUEST: Target = Target {
    name: "blob_request",
    shape: Shape::Message,
    decode: blob_request,
    seeds: || {
        let files = &scenery().library.contents().files;
        files.iter().map(|file| request(file.blob()).encode_to_vec()).take(2).collect()
    },
    input_bytes_max: 1 << 10,
    held_bytes: 1 << 20,
    held_per_byte: 8,
    cases: 6_000,
};

/// A model's list, as far as a model that is opened by it.
pub(crate) const LIST: Target = Target {
    name: "list",
    shape: Shape::Frames,
    decode: list,
    seeds: || {
        let contents = scenery().library.contents();
        let tensors = contents.tensors.iter().map(tensor);
        vec![framed(tensors.chain(contents.files.iter().map(file)))]
    },
    input_bytes_max: 128 << 10,
    held_bytes: 1 << 20,
    held_per_byte: 32,
    cases: 300,
};

/// A configuration file of a model, whose first byte says which one.
pub(crate) const CONFIGURATION: Target = Target {
    name: "configuration",
    shape: Shape::Bytes,
    decode: configuration,
    seeds: || {
        let numbered = (0u8..).zip(scenery().configurations.values());
        numbered.map(|(number, text)| [&[number], &text[..]].concat()).collect()
    },
    input_bytes_max: 16 << 10,
    held_bytes: 256 << 10,
    held_per_byte: 32,
    cases: 6_000,
};

/// The embedded model, its configuration files, and these as blobs in a folder.
struct Scenery {
    library: Library,
    configurations: BTreeMap<String, Vec<u8>>,
    blobs: Blobs,
    _folder: TempDir,
}

fn scenery() -> &'static Scenery {
    static MADE: OnceLock<Scenery> = OnceLock::new();
    MADE.get_or_init(|| {
        let checkpoint = Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer);
        let library = checkpoint.and_then(|checkpoint| checkpoint.library()).expect("it is whole");
        let folder = tempfile::tempdir().expect("a folder for tests");
        let blobs = Blobs::open(folder.path(), 1 << 30).expect("an empty folder");
        let mut configurations = BTreeMap::new();
        for file in &library.contents().files {
            let content = library.read(&file.blob()).expect("it is there").expect("it is its own");
            let mut incoming = blobs.receive(file.blob()).expect("there is room");
            incoming.write(&content).and_then(|()| incoming.finish()).expect("a small file");
            if !file.path.starts_with("tokenizer") {
                configurations.insert(file.path.clone(), content.to_vec());
            }
        }
        Scenery { library, configurations, blobs, _folder: folder }
    })
}

fn blob_request(bytes: &[u8]) -> Result<(), String> {
    let library = &scenery().library;
    let asked = decoded::<wire::ManifestRequest>(bytes)?.model_digest;
    let asked_model = control::model_digest(&asked).map_err(|error| error.to_string());
    let wire::FetchRequest { digest, offset, bytes } = decoded(bytes)?;
    let digest = Digest(control::digest(&digest).map_err(|error| error.to_string())?);
    let content = library.read(&Blob { digest, bytes }).map_err(|error| error.to_string())?;
    let content = content.ok_or_else(|| format!("no blob {digest}, of model {asked_model:?}"))?;
    let offset = usize::try_from(offset).ok().filter(|&offset| offset <= content.len());
    offset.map(drop).ok_or_else(|| "the blob ends before that".to_owned())
}

fn list(bytes: &[u8]) -> Result<(), String> {
    let Scenery { library, blobs, .. } = scenery();
    let mut listing = Listing::new(library.contents().digest);
    for entry in messages::<wire::ManifestEntry>(bytes, ENTRY_BYTES_MAX) {
        listing.take(entry?).map_err(|error| error.to_string())?;
    }
    let contents = listing.finish();
    contents.check().map_err(|error| error.to_string())?;
    let files = contents.files.iter().map(|file| file.digest);
    let pinned = blobs.pin(files, SystemTime::UNIX_EPOCH);
    let source = Source::fetched(contents.clone(), pinned).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::open(source, Ema::Prefer).map_err(|error| error.to_string())?;
    let model = checkpoint.model().map_err(|error| error.to_string())?;
    let need = Need { layers: Some(0..2), text: true, decoder: true };
    contents.needed(&model, &need).map(drop).map_err(|error| error.to_string())
}

fn configuration(bytes: &[u8]) -> Result<(), String> {
    let (&number, text) = bytes.split_first().ok_or("it is empty")?;
    let mut files = scenery().configurations.clone();
    let place = usize::from(number) % files.len();
    let replaced = files.values_mut().nth(place).ok_or("there are files")?;
    *replaced = text.to_vec();
    let opened = Checkpoint::open(Source::memory(files), Ema::Prefer);
    let opened = opened.map_err(|error| error.to_string())?;
    let model = opened.model().map_err(|error| error.to_string())?;
    if let Some(transformer) = &model.transformer {
        // A list of all that it says it has.
        let contents =
            Contents { digest: ModelDigest([0; 32]), tensors: Vec::new(), files: Vec::new() };
        let layers = transformer.layers.saturating_sub(1)..transformer.layers;
        let need = Need { layers: Some(layers), text: true, decoder: true };
        drop(contents.needed(&model, &need));
    }
    Ok(())
}

fn request(Blob { digest, bytes }: Blob) -> wire::FetchRequest {
    wire::FetchRequest { digest: digest.0.to_vec(), offset: 1, bytes }
}

fn tensor(entry: &TensorEntry) -> wire::ManifestEntry {
    let of = match entry.part {
        Part::TextEncoder => Of::TextEncoder,
        Part::Transformer => Of::Transformer,
        Part::Vae => Of::Vae,
        Part::Tokenizer => Of::Unspecified,
    };
    let kind = Kind::Tensor(wire::Tensor {
        of: of.into(),
        name: entry.name.clone(),
        dtype: entry.dtype.name().to_owned(),
        shape: entry.shape.iter().map(|&size| size as u64).collect(),
        digest: entry.digest.0.to_vec(),
        bytes: entry.bytes,
    });
    wire::ManifestEntry { kind: Some(kind) }
}

fn file(entry: &FileEntry) -> wire::ManifestEntry {
    let (path, digest) = (entry.path.clone(), entry.digest.0.to_vec());
    let kind = Kind::File(wire::File { path, digest, bytes: entry.bytes });
    wire::ManifestEntry { kind: Some(kind) }
}
