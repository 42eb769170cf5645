//! Diffusers' `AutoencoderKLWan`.

use serde::Deserialize;
use types::{Vae, wan};

use super::File;
use crate::Result;

/// The file. Defaults are the class's own, which are Wan2.1's.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    base_dim: usize,
    decoder_base_dim: Option<usize>,
    z_dim: usize,
    dim_mult: Vec<usize>,
    num_res_blocks: usize,
    /// The key is spelled like this in every released file.
    temperal_downsample: Vec<bool>,
    latents_mean: Vec<f32>,
    latents_std: Vec<f32>,
    in_channels: usize,
    out_channels: usize,
}

impl Default for Config {
    fn default() -> Self {
        let published = wan::vae();
        Self {
            base_dim: published.decoder_base_dim,
            decoder_base_dim: None,
            z_dim: published.z_dim,
            dim_mult: published.dim_mult,
            num_res_blocks: published.res_units,
            temperal_downsample: published.temporal_downsample,
            latents_mean: published.latents_mean,
            latents_std: published.latents_std,
            in_channels: 3,
            out_channels: 3,
        }
    }
}

/// More resolutions than any picture has.
const RESOLUTIONS_MAX: usize = 8;
/// The most residual units of a resolution, chosen: Wan's decoder has 2.
const RES_UNITS_MAX: usize = 64;

/// The resolved form of `file`.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field.
pub(crate) fn resolve(file: &File) -> Result<Vae> {
    file.refuse(&["is_residual", "patch_size"])?;
    let config: Config = file.parse()?;
    for (field, channels) in
        [("in_channels", config.in_channels), ("out_channels", config.out_channels)]
    {
        if channels != 3 {
            return Err(file.error(field, format!("only 3 is supported, found {channels}")));
        }
    }
    let resolutions = config.dim_mult.len();
    if !(1..=RESOLUTIONS_MAX).contains(&resolutions) {
        let problem = format!("expected 1 to {RESOLUTIONS_MAX} entries, found {resolutions}");
        return Err(file.error("dim_mult", problem));
    }
    if config.temperal_downsample.len() + 1 != resolutions {
        let problem = format!(
            "expected {} entries, one fewer than `dim_mult`, found {}",
            resolutions - 1,
            config.temperal_downsample.len()
        );
        return Err(file.error("temperal_downsample", problem));
    }
    let vae = Vae {
        decoder_base_dim: config.decoder_base_dim.unwrap_or(config.base_dim),
        z_dim: file.size("z_dim", config.z_dim)?,
        dim_mult: config.dim_mult,
        res_units: config.num_res_blocks,
        temporal_downsample: config.temperal_downsample,
        latents_mean: config.latents_mean,
        latents_std: config.latents_std,
    };
    check_sizes(file, &vae)?;
    Ok(vae)
}

fn check_sizes(file: &File, vae: &Vae) -> Result<()> {
    file.size("decoder_base_dim", vae.decoder_base_dim)?;
    if RES_UNITS_MAX < vae.res_units {
        let problem = format!("expected at most {RES_UNITS_MAX}, found {}", vae.res_units);
        return Err(file.error("num_res_blocks", problem));
    }
    for &mult in &vae.dim_mult {
        file.size("dim_mult", mult)?;
        file.size("dim_mult", mult.saturating_mul(vae.decoder_base_dim))?;
    }
    for (field, values) in [("latents_mean", &vae.latents_mean), ("latents_std", &vae.latents_std)]
    {
        if values.len() != vae.z_dim {
            let problem =
                format!("expected `z_dim` = {} entries, found {}", vae.z_dim, values.len());
            return Err(file.error(field, problem));
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(file.error(field, "expected finite numbers"));
        }
    }
    for &std in &vae.latents_std {
        file.positive("latents_std", f64::from(std))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn an_empty_file_is_wans_own() {
        let file = File { name: "config.json".into(), object: Map::new() };
        assert_eq!(resolve(&file).unwrap(), wan::vae());
    }

    #[test]
    fn contradictions_name_file_and_field() {
        let cases: [(&str, Value); 12] = [
            ("is_residual", json!(true)),
            ("patch_size", json!(2)),
            ("out_channels", json!(12)),
            ("dim_mult", json!([])),
            ("dim_mult", json!([1, 0, 4, 4])),
            ("temperal_downsample", json!([true])),
            ("latents_mean", json!([0.0])),
            ("latents_std", json!([1.0, 1.0])),
            ("z_dim", json!(0)),
            ("num_res_blocks", json!(65)),
            ("decoder_base_dim", json!(0)),
            ("latents_std", json!(vec![0; 16])),
        ];
        for (field, value) in cases {
            let object = [(field.to_owned(), value)].into_iter().collect();
            let file = File { name: "config.json".into(), object };
            let error = resolve(&file).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: field `{field}`")), "{error}");
        }
    }
}
