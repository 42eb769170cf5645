//! VAE: diffusers' names to Wan's names.
//!
//! Wan keeps the decoder's modules in one flat list: per resolution its
//! residual units, then (but for the last) the upsampling. Inside a unit the
//! list is norm, activation, convolution, norm, activation, dropout,
//! convolution, of which 0, 2, 3 and 6 have parameters.

use super::swap;

const UNIT: [(&str, &str); 5] = [
    ("norm1.", "residual.0."),
    ("conv1.", "residual.2."),
    ("norm2.", "residual.3."),
    ("conv2.", "residual.6."),
    ("conv_shortcut.", "shortcut."),
];

/// The Wan name of the decoder tensor that diffusers calls `canonical`.
pub(super) fn original(canonical: &str, res_units: usize) -> String {
    if let Some(rest) = canonical.strip_prefix("decoder.up_blocks.")
        && let Some(name) = upsample(rest, res_units)
    {
        return name;
    }
    let mid = [
        ("decoder.mid_block.resnets.0.", "decoder.middle.0."),
        ("decoder.mid_block.resnets.1.", "decoder.middle.2."),
    ];
    for (from, to) in mid {
        if let Some(rest) = canonical.strip_prefix(from) {
            return format!("{to}{}", swap(rest, &UNIT));
        }
    }
    swap(
        canonical,
        &[
            ("post_quant_conv.", "conv2."),
            ("decoder.conv_in.", "decoder.conv1."),
            ("decoder.mid_block.attentions.0.", "decoder.middle.1."),
            ("decoder.norm_out.", "decoder.head.0."),
            ("decoder.conv_out.", "decoder.head.2."),
        ],
    )
}

fn upsample(rest: &str, res_units: usize) -> Option<String> {
    let (block, rest) = rest.split_once('.')?;
    let first = block.parse::<usize>().ok()? * (res_units + 2);
    if let Some(rest) = rest.strip_prefix("upsamplers.0.") {
        return Some(format!("decoder.upsamples.{}.{rest}", first + res_units + 1));
    }
    let (unit, rest) = rest.strip_prefix("resnets.")?.split_once('.')?;
    let place = first + unit.parse::<usize>().ok()?;
    Some(format!("decoder.upsamples.{place}.{}", swap(rest, &UNIT)))
}
