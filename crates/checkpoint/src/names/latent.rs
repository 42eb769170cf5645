//! Latent self-attention whose tensors bear other names or are fused otherwise.
//!
//! The released VideoMLA weights name and fuse their projections in a way that
//! is not published, but the projections of a layer have distinct shapes. So
//! within `blocks.N.self_attn.` tensors are matched
//!
//! 1. by our names, and by DeepSeek-V2's for the same projections;
//! 2. what is left, by shape, each projection in any of its forms:
//!
//! | ours | other form |
//! |---|---|
//! | `kv_down` `[kv + rope, dim]` | `[kv, dim]` and `[rope, dim]`, or the reverse |
//! | `q_up` `[heads (nope + rope), ..]` | `[heads nope, ..]` and `[heads rope, ..]` |
//! | `k_up` and `v_up` | `[heads (nope + value), kv]` |
//!
//! A shape that fits two tensors or two forms is an error, never a guess. So is
//! a matrix that fuses two projections of several heads, whose rows may be in
//! two orders: `fused_heads` in `filmloom.json` settles it. Content stands
//! before the rope key, nope before rope and key before value, as in every
//! published form (arXiv:2405.04434).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use types::{Mla, Transformer};

use crate::{
    Error, Result,
    config::run::FusedHeads,
    formats::ByName,
    manifest,
    tensors::{Recipes, Rows},
    weights::Weights,
};

/// DeepSeek-V2's names of projections that need no taking apart, and ours.
const ALIASES: [(&str, &str); 6] = [
    ("q_a_proj.weight", "q_down.weight"),
    ("q_a_layernorm.weight", "norm_q.weight"),
    ("kv_a_layernorm.weight", "norm_kv.weight"),
    ("q_b_proj.weight", "q_up.weight"),
    ("o_proj.weight", "o.weight"),
    ("o_proj.bias", "o.bias"),
];
/// DeepSeek-V2's name of the fused key and value projection, ordered per head.
const FUSED_PER_HEAD: &str = "kv_b_proj.weight";

/// Recipes for the layers whose tensors are not simply ours.
///
/// # Errors
///
/// [`Error::Ambiguous`], naming file, layer and tensors.
pub(crate) fn recipes(
    weights: &Weights,
    config: &Transformer,
    mla: &Mla,
    fused_heads: Option<FusedHeads>,
) -> Result<Recipes> {
    let mut recipes = Recipes::new();
    for layer in 0..config.layers {
        let prefix = format!("blocks.{layer}.self_attn.");
        let first_after = format!("blocks.{layer}.self_attn/");
        if weights.absent.range(prefix.clone()..first_after.clone()).next().is_some() {
            continue;
        }
        let mut found = BTreeMap::new();
        for (name, tensor) in weights.tensors.range(prefix.clone()..first_after) {
            found.insert(&name[prefix.len()..], tensor.shape.as_slice());
        }
        let mut matching = Matching {
            prefix: &prefix,
            layer,
            file: file_of(&weights.tensors, &prefix, weights),
            dim: config.dim,
            heads: config.heads,
            mla,
            fused_heads,
            found,
            recipes: &mut recipes,
        };
        matching.run(manifest::mla(config.dim, config.heads, mla))?;
    }
    Ok(recipes)
}

/// A sentence on the first layer that was matched, if any.
pub(crate) fn describe(recipes: &Recipes) -> Option<String> {
    let (first, _) = recipes.first_key_value()?;
    let layer = first.split_inclusive('.').take(3).collect::<String>();
    let mut sources: Vec<String> = Vec::new();
    for (ours, parts) in recipes.iter().filter(|(name, _)| name.starts_with(&layer)) {
        let theirs: BTreeSet<&str> = parts.iter().map(|part| &part.stored[layer.len()..]).collect();
        let theirs: Vec<&str> = theirs.into_iter().collect();
        sources.push(format!("{} from {}", &ours[layer.len()..], theirs.join(" and ")));
    }
    Some(format!(
        "self-attention tensors bear other names and were matched: {}",
        sources.join(", ")
    ))
}

fn file_of(tensors: &ByName, prefix: &str, weights: &Weights) -> String {
    let first = tensors.range(prefix.to_owned()..).next();
    first.map_or_else(|| weights.some_file(), |(_, tensor)| tensor.file.to_string())
}

/// One layer in the course of being matched.
struct Matching<'a> {
    prefix: &'a str,
    layer: usize,
    file: String,
    dim: usize,
    heads: usize,
    mla: &'a Mla,
    fused_heads: Option<FusedHeads>,
    /// Tensors without a use so far, by name after the prefix.
    found: BTreeMap<&'a str, &'a [usize]>,
    recipes: &'a mut Recipes,
}

impl Matching<'_> {
    fn run(&mut self, expected: manifest::Manifest) -> Result<()> {
        let mut open: BTreeMap<String, Vec<usize>> = expected.into_iter().collect();
        open.retain(|name, shape| match self.found.get(name.as_str()) {
            Some(found) if found == shape => self.found.remove(name.as_str()).is_none(),
            Some(_) | None => true,
        });
        for (theirs, ours) in ALIASES {
            if let (Some(shape), Some(found)) = (open.get(ours), self.found.get(theirs))
                && found == shape
            {
                let rows = shape[0];
                self.take(ours, vec![(theirs.to_owned(), 0..rows)]);
                open.remove(ours);
            }
        }
        self.match_content_and_rope(&mut open)?;
        self.match_queries(&mut open)?;
        self.match_keys_and_values(&mut open)?;
        for (name, shape) in &open {
            if let Some(theirs) = self.only(name, shape)? {
                self.take(name, vec![(theirs, 0..shape[0])]);
            }
        }
        Ok(())
    }

    /// `kv_down`, and `k_rope` if that is apart.
    fn match_content_and_rope(&mut self, open: &mut BTreeMap<String, Vec<usize>>) -> Result<()> {
        let (kv, rope) = (self.mla.kv_rank, self.mla.rope);
        let (content, key) = ("kv_down.weight", "k_rope.weight");
        if !open.contains_key(content) && !open.contains_key(key) {
            return Ok(());
        }
        let dim = self.dim;
        if self.mla.fused_kv_down {
            let apart = (self.only(content, &[kv, dim])?, self.only(content, &[rope, dim])?);
            if let (Some(first), Some(second)) = apart {
                self.take(content, vec![(first, 0..kv), (second, 0..rope)]);
                open.remove(content);
            }
        } else if let Some(fused) = self.only(content, &[kv + rope, dim])? {
            self.take(content, vec![(fused.clone(), 0..kv)]);
            self.take(key, vec![(fused, kv..kv + rope)]);
            open.remove(content);
            open.remove(key);
        }
        Ok(())
    }

    /// The matrix that makes the heads' queries, ordered per head.
    fn match_queries(&mut self, open: &mut BTreeMap<String, Vec<usize>>) -> Result<()> {
        let name = if self.mla.query_rank.is_some() { "q_up.weight" } else { "q.weight" };
        let Some(shape) = open.get(name) else { return Ok(()) };
        let (nope, rope, width) = (self.mla.nope, self.mla.rope, shape[1]);
        let fused = self.only(name, shape)?;
        let apart = (
            self.only(name, &[self.heads * nope, width])?,
            self.only(name, &[self.heads * rope, width])?,
        );
        let parts = match (fused, apart) {
            (Some(fused), (Some(first), Some(second))) => {
                let problem = format!("`{name}` may be `{fused}`, or `{first}` and `{second}`");
                return Err(self.ambiguous(problem));
            }
            (Some(fused), _) => {
                let (nopes, ropes) = self.halves(&fused, name, nope, rope)?;
                nopes.into_iter().zip(ropes).flat_map(|(nope, rope)| [nope, rope]).collect()
            }
            (None, (Some(first), Some(second))) => (0..self.heads)
                .flat_map(|head| {
                    let nopes = head * nope..(head + 1) * nope;
                    let ropes = head * rope..(head + 1) * rope;
                    [(first.clone(), nopes), (second.clone(), ropes)]
                })
                .collect(),
            (None, _) => return Ok(()),
        };
        open.remove(name);
        self.take(name, parts);
        Ok(())
    }

    /// `k_up` and `v_up` out of one matrix.
    fn match_keys_and_values(&mut self, open: &mut BTreeMap<String, Vec<usize>>) -> Result<()> {
        let (keys, values) = ("k_up.weight", "v_up.weight");
        if !open.contains_key(keys) || !open.contains_key(values) {
            return Ok(());
        }
        let (nope, value) = (self.mla.nope, self.mla.value);
        let Some(fused) = self.only(keys, &[self.heads * (nope + value), self.mla.kv_rank])? else {
            return Ok(());
        };
        let (key_rows, value_rows) = self.halves(&fused, "k_up` and `v_up", nope, value)?;
        self.take(keys, key_rows);
        self.take(values, value_rows);
        open.remove(keys);
        open.remove(values);
        Ok(())
    }

    /// Rows of the two projections that a matrix fuses, head by head, where
    /// the projections are `first` and `second` wide.
    #[expect(clippy::type_complexity, reason = "two lists of the pieces `take` wants")]
    fn halves(
        &self,
        fused: &str,
        ours: &str,
        first: usize,
        second: usize,
    ) -> Result<(Vec<(String, Range<usize>)>, Vec<(String, Range<usize>)>)> {
        let order = match self.fused_heads {
            Some(order) => order,
            None if self.heads == 1 || fused == FUSED_PER_HEAD => FusedHeads::PerHead,
            None => {
                let heads = self.heads;
                return Err(self.ambiguous(format!(
                    "`{fused}` holds `{ours}` of {heads} heads in an unknown order: add \
                     \"fused_heads\": \"per_head\" or \"blocks\" to filmloom.json"
                )));
            }
        };
        let piece = |start: usize, width| (fused.to_owned(), start..start + width);
        let all = |start: &dyn Fn(usize) -> usize, width| -> Vec<_> {
            (0..self.heads).map(|head| piece(start(head), width)).collect()
        };
        Ok(match order {
            FusedHeads::PerHead => (
                all(&|head| head * (first + second), first),
                all(&|head| head * (first + second) + first, second),
            ),
            FusedHeads::Blocks => (
                all(&|head| head * first, first),
                all(&|head| self.heads * first + head * second, second),
            ),
        })
    }

    /// The unused tensor of this shape, if there is just one.
    fn only(&self, ours: &str, shape: &[usize]) -> Result<Option<String>> {
        let mut fitting =
            self.found.iter().filter(|(_, found)| **found == shape).map(|(name, _)| *name);
        match (fitting.next(), fitting.next()) {
            (Some(first), Some(second)) => Err(self.ambiguous(format!(
                "`{first}` and `{second}` both have the shape {shape:?} of `{ours}`"
            ))),
            (first, _) => Ok(first.map(str::to_owned)),
        }
    }

    /// Notes what a tensor of ours is made of, and that its parts are used.
    fn take(&mut self, ours: &str, parts: Vec<(String, Range<usize>)>) {
        let mut recipe: Vec<Rows> = Vec::new();
        for (theirs, rows) in parts {
            self.found.remove(theirs.as_str());
            let stored = format!("{}{theirs}", self.prefix);
            match recipe.last_mut() {
                Some(last) if last.stored == stored && last.rows.end == rows.start => {
                    last.rows.end = rows.end;
                }
                Some(_) | None => recipe.push(Rows { stored, rows }),
            }
        }
        self.recipes.insert(format!("{}{ours}", self.prefix), recipe);
    }

    fn ambiguous(&self, problem: String) -> Error {
        Error::Ambiguous { file: self.file.clone(), layer: self.layer, problem }
    }
}
