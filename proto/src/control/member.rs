//! What a worker says of itself, as the plan takes it.

use plan::{
    cluster::{Offer, ProbeDigest},
    placement::{Limits, Speed},
};
use types::{Class, text::is_plain};

use super::{digest, layers, wire};
use crate::Malformed;

/// Characters of a node's name, at most.
const NAME_CHARACTERS_MAX: usize = 64;

/// Reads what a worker offers.
///
/// # Errors
///
/// [`Malformed`] if its best class is none of ours, its name or its layers are not
/// what they must be.
pub fn offer(hello: &wire::Hello) -> Result<Offer, Malformed> {
    let name = hello.classes.first().map_or("", String::as_str);
    let class = Class::from_name(name).ok_or_else(|| {
        Malformed::new("classes", format!("begin with {name:?}, which this side does not know"))
    })?;
    let limits = hello.limits.unwrap_or_default();
    let roles = hello.roles.unwrap_or_default();
    node_name(&hello.name)?;
    Ok(Offer {
        name: hello.name.clone(),
        class,
        memory_bytes: hello.memory_bytes,
        limits: Limits {
            layers: limits.layers.map(layers).transpose()?,
            memory_bytes_max: limits.memory_bytes_max,
            layers_share_max: limits.layers_share_max,
        },
        layers: roles.layers,
        text: roles.text,
        decoder: roles.decoder,
    })
}

/// Checks the name that a node gives itself.
///
/// # Errors
///
/// [`Malformed`] if it is empty or too long, or has a character that a terminal obeys.
pub fn node_name(name: &str) -> Result<(), Malformed> {
    if name.is_empty() || name.chars().nth(NAME_CHARACTERS_MAX).is_some() {
        let problem = format!("has not 1 to {NAME_CHARACTERS_MAX} characters");
        return Err(Malformed::new("name", problem));
    }
    match name.chars().find(|&character| !is_plain(character)) {
        None => Ok(()),
        Some(character) => {
            let problem = format!("has the control character {character:?}: give another --name");
            Err(Malformed::new("name", problem))
        }
    }
}

/// What the layers gave that a worker timed, if it says so.
///
/// # Errors
///
/// [`Malformed`] if it is no digest.
pub fn probe(profiled: &wire::Profiled) -> Result<Option<ProbeDigest>, Malformed> {
    if profiled.probe_digest.is_empty() {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h, ..] = digest(&profiled.probe_digest)?;
    Ok(Some(ProbeDigest(u64::from_be_bytes([a, b, c, d, e, f, g, h]))))
}

/// The times that a worker measured. Whether one can plan with them, the plan says.
pub fn speed(profiled: &wire::Profiled) -> Speed {
    Speed {
        layer_seconds: profiled.layer_seconds,
        embedding_seconds: profiled.embedding_seconds,
        head_seconds: profiled.head_seconds,
        decode_seconds: profiled.decode_seconds,
        text_seconds: profiled.text_seconds,
    }
}
