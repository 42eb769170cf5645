//! Whether a run of one part fits into memory, before anything is loaded.
//!
//! What the part holds is planned as for a video; its results are held beside
//! it, as values and as the file's bytes. An input that cannot be planned for is
//! refused by the run itself, which knows why.

use backend::Class;
use checkpoint::Checkpoint;
use model::forward::CHUNKS_MAX;
use plan::{
    memory::{Load, Parts, Size, memory},
    presets,
    units::Bytes,
};
use types::{Model, Transformer, Vae, wan};

use crate::{
    failure::Failure,
    forward::{ForwardArgs, Input, Part},
    held, system,
};

/// Copies of a result: values in the order in which they are made, in the order
/// of the file, and as its bytes.
const COPIES: u64 = 3;

/// What a part holds, and how many values it gives.
struct Needs {
    model: Model,
    parts: Parts,
    size: Size,
    frames: usize,
    values: u64,
}

/// Checks that a run fits.
///
/// # Errors
///
/// [`Failure::Input`] with the numbers, or if the part is not there.
pub(super) fn check(
    args: &ForwardArgs,
    checkpoint: &Checkpoint,
    input: &Input,
    class: Class,
) -> Result<(), Failure> {
    let needs = match args.part {
        Part::Text => None,
        Part::Transformer => {
            let config = checkpoint.transformer()?;
            input.shape("noisy").and_then(|shape| stage(config, &shape, args.dump_cache))
        }
        Part::Vae => {
            let vae = checkpoint.vae()?;
            input.shape("latents").and_then(|shape| decoder(vae, &shape))
        }
        Part::Pipeline => pipeline(checkpoint.model()?, input),
    };
    let Some(Needs { model, parts, size, frames, values }) = needs else { return Ok(()) };
    let load = Load { parts, engine: held::engine(class.activation()), size, video_frames: frames };
    let Ok(planned) = memory(&model, &load) else { return Ok(()) };
    let results_bytes = values.saturating_mul(COPIES * size_of::<f32>() as u64);
    let available_bytes = system::available_memory_bytes();
    if let Some(available) = available_bytes.filter(|&available| available < results_bytes) {
        let (need, available) = (Bytes(results_bytes), Bytes(available));
        return Err(Failure::Input(format!(
            "not enough memory: the results take {need} with their copies, but {available} are \
             available: give a smaller input"
        )));
    }
    Ok(held::fits(&[planned], results_bytes, available_bytes, args.threads.count())?)
}

/// All layers, for frames of `[channels, frames, rows, columns]`.
fn stage(config: Transformer, shape: &[usize], dump_cache: bool) -> Option<Needs> {
    let &[_, frames, rows, columns] = shape else { return None };
    // Only its scale counts: eight pixels a row and column, as in every Wan VAE.
    let vae = wan::vae();
    let size = pixels(&vae, rows, columns)?;
    let parts = Parts { text: false, layers: Some(0..config.layers), decoder: false };
    let window = config.window.map_or(frames, |window| window.frames_max());
    let tokens = product(&[window, rows, columns]) / product(&config.patch).max(1);
    let rows = product(&[config.layers, config.row_elements()]);
    let cached = if dump_cache { tokens.saturating_mul(rows) } else { 0 };
    let model = Model { transformer: Some(config), vae: Some(vae), ..shapes()? };
    let values = product(shape).saturating_add(cached);
    Some(Needs { model, parts, size, frames, values })
}

/// The decoder, for frames of `[channels, frames, rows, columns]`.
fn decoder(vae: Vae, shape: &[usize]) -> Option<Needs> {
    let &[_, frames, rows, columns] = shape else { return None };
    let size = pixels(&vae, rows, columns)?;
    let parts = Parts { text: false, layers: None, decoder: true };
    let values = picture_values(&vae, size, frames);
    let model = Model { transformer: None, vae: Some(vae), ..shapes()? };
    Some(Needs { model, parts, size, frames, values })
}

/// A whole model, at its own size.
fn pipeline(model: Model, input: &Input) -> Option<Needs> {
    let size = Size { width: model.video.width, height: model.video.height };
    let given = input.shape("noise").and_then(|shape| shape.get(2).copied());
    let window = model.transformer.as_ref()?.window;
    let frames = window.map(|window| window.chunk).or(given).or(input.count("frames").ok()?)?;
    let chunks = u32::try_from(input.integer("chunks").ok()?).ok()?;
    let chunks = Some(chunks).filter(|chunks| (1..=CHUNKS_MAX).contains(chunks))? as usize;
    let vae = model.vae.as_ref()?;
    let values = picture_values(vae, size, frames.saturating_mul(chunks));
    let parts = Parts::whole(&model);
    Some(Needs { model, parts, size, frames, values })
}

/// A model of published shapes, whose parts are replaced.
fn shapes() -> Option<Model> {
    Some(Model { text_encoder: None, ..presets::preset("videomla-1.3b")? })
}

fn pixels(vae: &Vae, rows: usize, columns: usize) -> Option<Size> {
    let scale = vae.space_scale();
    Some(Size { width: columns.checked_mul(scale)?, height: rows.checked_mul(scale)? })
}

fn picture_values(vae: &Vae, size: Size, frames: usize) -> u64 {
    let after_the_first = frames.saturating_sub(1).saturating_mul(vae.time_scale());
    product(&[3, size.width, size.height, after_the_first.saturating_add(1)])
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, &size| product.saturating_mul(size as u64))
}
