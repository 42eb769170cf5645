//! A model folder: which parts it has, where they are, and how to open them.
//!
//! Each part is looked for on its own, so a folder may hold one part only, or
//! parts of different families side by side:
//!
//! | part | diffusers layout (and ours) | original Wan layout |
//! |---|---|---|
//! | transformer | `transformer/config.json` | `config.json` |
//! | VAE | `vae/config.json` | `Wan2.1_VAE.pth` |
//! | text encoder | `text_encoder/config.json` | `models_t5_umt5-xxl-enc-*.pth` |
//! | tokenizer | `tokenizer/tokenizer.json` | `google/umt5-xxl/tokenizer.json` |
//!
//! A part's own folder is accepted as well, when its `config.json` is in the
//! root.

use std::ops::Range;

use types::{Attention, Model, Sampler, TextEncoder, Transformer, Vae, Video};

use crate::{
    Bytes, Error, Part, Result, Source, Tensors,
    config::{Family, File, latent as own, run, text, vae, wan},
    manifest::{self, Manifest},
    names::{Naming, latent},
    source::join,
    tensors::{Recipes, Stored, Tally},
    weights::{self, Ema, WeightFiles, Weights},
};

/// A model folder. Opening it reads no weights.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    source: Source,
    ema: Ema,
    transformer: Option<Place>,
    vae: Option<Place>,
    text_encoder: Option<Place>,
    tokenizer: Option<String>,
    /// Bytes of tensors that were handed out.
    tally: Tally,
}

/// Where a part is.
#[derive(Clone, Debug)]
struct Place {
    /// The configuration file; `None` where the layout has none.
    config: Option<String>,
    /// The folder of the weights.
    folder: String,
    /// The weight files of the name that the layout prescribes; none where it
    /// prescribes none.
    files: Vec<String>,
}

/// A part that was checked against its configuration.
#[derive(Clone, Debug)]
pub struct Opened<C> {
    /// The resolved configuration.
    pub config: C,
    /// The tensors. Those of the asked layers are there and fit.
    pub tensors: Tensors,
    /// Oddities that do no harm, each a sentence for the user.
    pub warnings: Vec<String>,
}

pub(crate) const TOKENIZERS: [&str; 3] =
    ["tokenizer/tokenizer.json", "google/umt5-xxl/tokenizer.json", "tokenizer.json"];
/// The largest tokenizer read, chosen: Wan's UMT5 takes 17 MB, and parsing takes
/// several times a file's length.
pub(crate) const TOKENIZER_BYTES_MAX: usize = 256 << 20;
const ORIGINAL_VAE: &str = "Wan2.1_VAE.pth";
/// How the name begins and ends; between stands the element type, as `bf16`.
const ORIGINAL_TEXT: [&str; 2] = ["models_t5_umt5-xxl-enc-", ".pth"];
const ROOT_CONFIG: &str = "config.json";

impl Checkpoint {
    /// Looks what parts there are.
    ///
    /// # Errors
    ///
    /// [`Error::NoModel`] if there is none, [`Error::Io`] or [`Error::Json`] if
    /// a `config.json` in the root cannot be read. For a fetched model also
    /// [`Error::OtherModel`], and everything that [`Checkpoint::model`] reports.
    pub fn open(source: Source, ema: Ema) -> Result<Self> {
        let mut parts = Self {
            transformer: Place::in_folder(&source, "transformer"),
            vae: Place::in_folder(&source, "vae"),
            text_encoder: Place::in_folder(&source, "text_encoder"),
            tokenizer: TOKENIZERS.iter().find(|path| source.has(path)).map(|path| (*path).into()),
            source,
            ema,
            tally: Tally::default(),
        };
        parts.look_in_root()?;
        let places = [&parts.transformer, &parts.vae, &parts.text_encoder];
        if places.iter().all(|place| place.is_none()) && parts.tokenizer.is_none() {
            return Err(Error::NoModel { source_name: parts.source.display("") });
        }
        parts.check_digest()?;
        Ok(parts)
    }

    /// The same, whose tensors count as read in this tally once they are handed out.
    pub fn counted(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    fn look_in_root(&mut self) -> Result<()> {
        if self.source.has(ROOT_CONFIG) {
            let file = File::read(&self.source, ROOT_CONFIG)?;
            let place = Place {
                config: Some(ROOT_CONFIG.to_owned()),
                folder: String::new(),
                files: vec![],
            };
            let part = match (file.text("_class_name"), file.text("model_type")) {
                ("AutoencoderKLWan", _) => &mut self.vae,
                (_, "umt5") => &mut self.text_encoder,
                _ => &mut self.transformer,
            };
            part.get_or_insert(place);
        }
        let bare = |files| Place { config: None, folder: String::new(), files };
        if let Source::Fetched(fetched) = &self.source {
            let parts = [(Part::Vae, &mut self.vae), (Part::TextEncoder, &mut self.text_encoder)];
            for (part, place) in parts {
                if fetched.contents().has(part) {
                    place.get_or_insert_with(|| bare(vec![]));
                }
            }
        }
        if self.vae.is_none() && self.source.has(ORIGINAL_VAE) {
            self.vae = Some(bare(vec![ORIGINAL_VAE.to_owned()]));
        }
        if self.text_encoder.is_none() {
            let [start, end] = ORIGINAL_TEXT;
            let mut files = self.source.list("");
            files.retain(|name| name.starts_with(start) && name.ends_with(end));
            self.text_encoder = (!files.is_empty()).then(|| bare(files));
        }
        Ok(())
    }

    /// Where the files come from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Where the tokenizer is.
    pub(crate) fn tokenizer_path(&self) -> Option<&str> {
        self.tokenizer.as_deref()
    }

    /// The files that are read whole: configurations and tokenizer.
    pub(crate) fn small_paths(&self) -> impl Iterator<Item = &str> {
        let places = [&self.transformer, &self.vae, &self.text_encoder];
        let configs = places.into_iter().flatten().filter_map(|place| place.config.as_deref());
        let shared = [ROOT_CONFIG].into_iter().chain(run::FILES);
        let shared = shared.filter(|path| self.source.has(path));
        configs.chain(shared).chain(self.tokenizer_path())
    }

    /// Whether the folder has `part`.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Transformer => self.transformer.is_some(),
            Part::Vae => self.vae.is_some(),
            Part::TextEncoder => self.text_encoder.is_some(),
            Part::Tokenizer => self.tokenizer.is_some(),
        }
    }

    /// The folder, as messages name it.
    pub fn name(&self) -> String {
        self.source.display("")
    }

    /// The resolved configuration of all parts that are there.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] or [`Error::Config`], naming file and field; also where
    /// two parts contradict each other.
    pub fn model(&self) -> Result<Model> {
        let transformer = self.transformer.as_ref().map(|_| self.transformer()).transpose()?;
        let vae = self.vae.as_ref().map(|_| self.vae()).transpose()?;
        let text_encoder = self.text_encoder.as_ref().map(|_| self.text_encoder()).transpose()?;
        self.check_joints(transformer.as_ref(), vae.as_ref(), text_encoder.as_ref())?;
        let (sampler, video) = self.run(transformer.as_ref(), vae.as_ref())?;
        Ok(Model { text_encoder, transformer, vae, sampler, video })
    }

    /// What no file states, so that the published models' values are taken: a
    /// sentence for the user.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] or [`Error::Config`].
    pub fn assumed(&self) -> Result<Option<String>> {
        run::assumed(&self.source, &self.overrides()?.1)
    }

    /// The transformer's resolved configuration.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`], [`Error::Json`] or [`Error::Config`].
    pub fn transformer(&self) -> Result<Transformer> {
        self.resolve_transformer().map(|(config, _, _)| config)
    }

    /// The VAE's resolved configuration.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`], [`Error::Json`] or [`Error::Config`].
    pub fn vae(&self) -> Result<Vae> {
        match &self.place(Part::Vae)?.config {
            None => Ok(types::wan::vae()),
            Some(path) => {
                let file = File::read(&self.source, path)?;
                expect_class(&file, "AutoencoderKLWan")?;
                vae::resolve(&file)
            }
        }
    }

    /// The text encoder's resolved configuration.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`], [`Error::Json`] or [`Error::Config`].
    pub fn text_encoder(&self) -> Result<TextEncoder> {
        match &self.place(Part::TextEncoder)?.config {
            None => Ok(types::wan::umt5_xxl()),
            Some(path) => text::resolve(&File::read(&self.source, path)?),
        }
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`], [`Error::Io`] or [`Error::TooLarge`].
    pub fn tokenizer(&self) -> Result<Bytes> {
        match &self.tokenizer {
            Some(path) => self.source.read_whole(path, "a tokenizer", TOKENIZER_BYTES_MAX),
            None => Err(self.no_part(Part::Tokenizer)),
        }
    }

    /// The transformer with the tensors of `layers`, checked; with `None`, of all
    /// layers and the text projection.
    ///
    /// # Errors
    ///
    /// Everything in [`Error`]: nothing is computed with unchecked files.
    pub fn open_transformer(&self, layers: Option<Range<usize>>) -> Result<Opened<Transformer>> {
        let Some(layers) = layers else {
            return self.open_transformer_tensors(manifest::whole_transformer);
        };
        let count = self.transformer()?.layers;
        if layers.is_empty() || count < layers.end {
            let place = self.place(Part::Transformer)?;
            let file = self.source.display(place.config.as_deref().unwrap_or_default());
            let (start, end) = (layers.start, layers.end);
            return Err(Error::Layers { file, start, end, layers: count });
        }
        self.open_transformer_tensors(|config| manifest::transformer(config, layers))
    }

    /// The transformer with the tensors of its text projection, checked: what stands
    /// with the text encoder.
    ///
    /// # Errors
    ///
    /// Everything in [`Error`]: nothing is computed with unchecked files.
    pub fn open_text_projection(&self) -> Result<Opened<Transformer>> {
        self.open_transformer_tensors(manifest::text_projection)
    }

    fn open_transformer_tensors(
        &self,
        needed: impl FnOnce(&Transformer) -> Manifest,
    ) -> Result<Opened<Transformer>> {
        let (config, family, overrides) = self.resolve_transformer()?;
        let weights = self.weights(Part::Transformer)?;
        let naming = Naming::of_transformer(&weights.tensors);
        let mut warnings = Vec::new();
        let recipes = match (&config.attention, naming) {
            (Attention::Mla(mla), Naming::Canonical) => {
                latent::recipes(&weights, &config, mla, overrides.fused_heads)?
            }
            _ => Recipes::new(),
        };
        warnings.extend(latent::describe(&recipes));
        let (part, tally) = (Part::Transformer, self.tally.clone());
        let tensors = Tensors::stored(Stored { part, weights, naming, recipes, tally });
        tensors.check(&needed(&config))?;
        let surplus = tensors.check_surplus(&manifest::whole_transformer(&config));
        tolerate(surplus, family != Family::Filmloom, &mut warnings)?;
        Ok(Opened { config, tensors, warnings })
    }

    /// The VAE with its decoder's tensors, checked. The encoder may be absent.
    ///
    /// # Errors
    ///
    /// Everything in [`Error`]: nothing is computed with unchecked files.
    pub fn open_vae(&self) -> Result<Opened<Vae>> {
        let config = self.vae()?;
        let weights = self.weights(Part::Vae)?;
        let naming = Naming::of_vae(&weights.tensors, config.res_units);
        let (recipes, tally) = (Recipes::new(), self.tally.clone());
        let stored = Stored { part: Part::Vae, weights, naming, recipes, tally };
        opened(stored, &manifest::vae_decoder(&config), config)
    }

    /// The text encoder with its tensors, checked.
    ///
    /// # Errors
    ///
    /// Everything in [`Error`]: nothing is computed with unchecked files.
    pub fn open_text_encoder(&self) -> Result<Opened<TextEncoder>> {
        let config = self.text_encoder()?;
        let weights = self.weights(Part::TextEncoder)?;
        let naming = Naming::of_text_encoder(&weights.tensors);
        let (recipes, tally) = (Recipes::new(), self.tally.clone());
        let stored = Stored { part: Part::TextEncoder, weights, naming, recipes, tally };
        opened(stored, &manifest::text_encoder(&config), config)
    }

    /// The transformer's on-disk family.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`], [`Error::Json`] or [`Error::Config`].
    pub fn family(&self) -> Result<Family> {
        let place = self.place(Part::Transformer)?;
        let path = place.config.as_deref().unwrap_or(ROOT_CONFIG);
        Family::of(&File::read(&self.source, path)?)
    }

    /// Where the tokenizer is, as messages name it.
    pub fn tokenizer_name(&self) -> String {
        self.source.display(self.tokenizer.as_deref().unwrap_or_default())
    }

    fn resolve_transformer(&self) -> Result<(Transformer, Family, run::Overrides)> {
        let place = self.place(Part::Transformer)?;
        let path = place.config.as_deref().unwrap_or(ROOT_CONFIG);
        let file = File::read(&self.source, path)?;
        let family = Family::of(&file)?;
        let overrides = run::Overrides::read(&self.source, Some(family))?;
        let config = match family {
            Family::Filmloom => own::resolve(&file)?,
            Family::Diffusers | Family::CausalDiffusers => {
                wan::resolve_diffusers(&file, family, &overrides)?
            }
            Family::Original | Family::CausalOriginal => {
                wan::resolve_original(&file, family, &overrides)?
            }
        };
        Ok((config, family, overrides))
    }

    /// Checks the widths at which two parts meet.
    fn check_joints(
        &self,
        transformer: Option<&Transformer>,
        vae: Option<&Vae>,
        text_encoder: Option<&TextEncoder>,
    ) -> Result<()> {
        let Some(transformer) = transformer else { return Ok(()) };
        let [input, output] = match self.family()? {
            Family::Filmloom | Family::Original | Family::CausalOriginal => ["in_dim", "out_dim"],
            Family::Diffusers | Family::CausalDiffusers => ["in_channels", "out_channels"],
        };
        let (text, frames) = (text_encoder.map(|text| text.dim), vae.map(|vae| vae.z_dim));
        let joints = [
            ("text_dim", transformer.text_dim, Part::TextEncoder, text),
            (input, transformer.in_channels, Part::Vae, frames),
            (output, transformer.out_channels, Part::Vae, frames),
        ];
        for (field, ours, part, theirs) in joints {
            if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
                let place = self.place(Part::Transformer)?;
                return Err(Error::Config {
                    file: self.source.display(place.config.as_deref().unwrap_or(ROOT_CONFIG)),
                    field: field.to_owned(),
                    problem: format!("is {ours}, but the {part} is {theirs} wide"),
                });
            }
        }
        Ok(())
    }

    fn run(
        &self,
        transformer: Option<&Transformer>,
        vae: Option<&Vae>,
    ) -> Result<(Sampler, Video)> {
        let (family, overrides) = self.overrides()?;
        run::resolve(&self.source, &overrides, family, transformer, vae)
    }

    fn overrides(&self) -> Result<(Option<Family>, run::Overrides)> {
        match &self.transformer {
            Some(_) => {
                let (_, family, overrides) = self.resolve_transformer()?;
                Ok((Some(family), overrides))
            }
            None => Ok((None, run::Overrides::read(&self.source, None)?)),
        }
    }

    /// All tensors in a part's files.
    pub(crate) fn weights(&self, part: Part) -> Result<Weights> {
        let place = self.place(part)?;
        if let Source::Fetched(fetched) = &self.source {
            return fetched.weights(part);
        }
        let files = match place.files.as_slice() {
            [] => WeightFiles::find(&self.source, &place.folder)?,
            [file] => WeightFiles::Torch(file.clone()),
            several => return Err(weights::unclear(&self.source, &place.folder, several)),
        };
        Weights::open(&self.source, &files, self.ema)
    }

    fn place(&self, part: Part) -> Result<&Place> {
        let place = match part {
            Part::Transformer => self.transformer.as_ref(),
            Part::Vae => self.vae.as_ref(),
            Part::TextEncoder => self.text_encoder.as_ref(),
            Part::Tokenizer => None,
        };
        place.ok_or_else(|| self.no_part(part))
    }

    fn no_part(&self, part: Part) -> Error {
        let looked_for = match part {
            Part::Transformer => "transformer/config.json and config.json".to_owned(),
            Part::Vae => format!("vae/config.json and {ORIGINAL_VAE}"),
            Part::TextEncoder => {
                format!("text_encoder/config.json and {}", ORIGINAL_TEXT.join("*"))
            }
            Part::Tokenizer => TOKENIZERS.join(" and "),
        };
        Error::NoPart { source_name: self.source.display(""), part, looked_for }
    }
}

impl Place {
    fn in_folder(source: &Source, folder: &str) -> Option<Self> {
        let config = join(folder, "config.json");
        let place = || Self { config: Some(config.clone()), folder: folder.into(), files: vec![] };
        source.has(&config).then(place)
    }
}

fn expect_class(file: &File, expected: &str) -> Result<()> {
    match file.text("_class_name") {
        found if found == expected || found.is_empty() => Ok(()),
        found => Err(file.error("_class_name", format!("expected {expected}, found {found}"))),
    }
}

/// Checks the tensors of a part whose files may hold more than is needed.
fn opened<C>(stored: Stored, manifest: &[(String, Vec<usize>)], config: C) -> Result<Opened<C>> {
    let tensors = Tensors::stored(stored);
    tensors.check(manifest)?;
    let mut warnings = Vec::new();
    tolerate(tensors.check_surplus(manifest), true, &mut warnings)?;
    Ok(Opened { config, tensors, warnings })
}

/// Turns a harmless surplus into a warning where that is allowed.
fn tolerate(surplus: Result<()>, allowed: bool, warnings: &mut Vec<String>) -> Result<()> {
    match surplus {
        Err(Error::Surplus { file, tensor, found, count }) if allowed => {
            warnings.push(format!(
                "{file}: tensor `{tensor}` {found:?} is not part of the configured model \
                 ({count} such): it is not read"
            ));
            Ok(())
        }
        other => other,
    }
}
