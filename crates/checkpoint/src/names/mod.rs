//! From canonical tensor names to the names in a file.
//!
//! Which names a file uses is read off the names themselves, not off the
//! configuration: students in diffusers' folders often keep the original ones.
//!
//! Sources: `convert_wan_to_diffusers.py` in `huggingface/diffusers`;
//! `wan/modules/{model,vae,t5}.py` in `Wan-Video/Wan2.1`.

pub(crate) mod latent;
mod text;
mod transformer;
mod vae;

use crate::formats::ByName;

/// The way a file names the tensors of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As in this crate's manifests.
    Canonical,
    /// A transformer as diffusers names it.
    DiffusersTransformer,
    /// A VAE as Wan names it; the number shapes its flat list of modules.
    OriginalVae {
        /// As in the configuration.
        res_units: usize,
    },
    /// A text encoder as Wan names it.
    OriginalText,
    /// A text encoder that stores its embedding under the tied name only.
    TiedText,
}

/// The tied name of a text encoder's embedding.
const TIED: &str = "encoder.embed_tokens.weight";

impl Naming {
    pub(crate) fn of_transformer(tensors: &ByName) -> Self {
        let diffusers =
            |name: &String| name.starts_with("condition_embedder.") || name.contains(".attn1.");
        match tensors.keys().any(diffusers) {
            true => Self::DiffusersTransformer,
            false => Self::Canonical,
        }
    }

    pub(crate) fn of_vae(tensors: &ByName, res_units: usize) -> Self {
        match tensors.keys().any(|name| name.starts_with("decoder.upsamples.")) {
            true => Self::OriginalVae { res_units },
            false => Self::Canonical,
        }
    }

    pub(crate) fn of_text_encoder(tensors: &ByName) -> Self {
        if tensors.contains_key("token_embedding.weight") {
            Self::OriginalText
        } else if tensors.contains_key(TIED) && !tensors.contains_key("shared.weight") {
            Self::TiedText
        } else {
            Self::Canonical
        }
    }

    /// The stored name of the tensor called `canonical`.
    pub(crate) fn stored(self, canonical: &str) -> String {
        match self {
            Self::Canonical => canonical.to_owned(),
            Self::DiffusersTransformer => transformer::diffusers(canonical),
            Self::OriginalVae { res_units } => vae::original(canonical, res_units),
            Self::OriginalText => text::original(canonical),
            Self::TiedText if canonical == "shared.weight" => TIED.to_owned(),
            Self::TiedText => canonical.to_owned(),
        }
    }

    /// Whether a stored tensor is known though no manifest lists it: the VAE's
    /// encoder, and the tied copy of a text encoder's embedding.
    pub(crate) fn knows_beside(self, stored: &str, part: crate::Part) -> bool {
        match part {
            crate::Part::Transformer | crate::Part::Tokenizer => false,
            crate::Part::Vae => {
                let first = stored.split('.').next();
                matches!(first, Some("encoder" | "quant_conv" | "conv1"))
            }
            crate::Part::TextEncoder => stored == TIED,
        }
    }

    /// Whether a stored name is of the parts of a model that its configuration
    /// counts: layers, units, resolutions.
    pub(crate) fn is_own(self, stored: &str, part: crate::Part) -> bool {
        let places: &[&str] = match part {
            crate::Part::Transformer => &["blocks."],
            crate::Part::Vae => &["decoder."],
            crate::Part::TextEncoder => &["blocks.", "encoder.block."],
            crate::Part::Tokenizer => &[],
        };
        places.iter().any(|place| stored.starts_with(place))
    }
}

/// Replaces a prefix.
fn swap(name: &str, pairs: &[(&str, &str)]) -> String {
    let found = pairs.iter().find_map(|(from, to)| Some((to, name.strip_prefix(from)?)));
    match found {
        Some((to, rest)) => format!("{to}{rest}"),
        None => name.to_owned(),
    }
}
