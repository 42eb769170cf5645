//! Requests that contradict themselves, and those that fit nowhere.

use super::{
    Classes, Request, Worker,
    problem::{Problem, Roles},
    search,
};
use crate::units::{Bytes, counted, listed, sum};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The cluster is empty. Start a worker.
    #[error("there is no worker to place layers on: start one with `filmloom worker`")]
    NoWorkers,
    /// The model has no layers. Correct the work.
    #[error("a model of 0 layers cannot be placed: give it at least one")]
    NoLayers,
    /// A chunk has fewer runs than passes, or none. Correct the work.
    #[error("{runs} runs in {passes} passes are no chunk: every pass needs at least one run")]
    NoRuns {
        /// Passes of a chunk.
        passes: u32,
        /// Their runs.
        runs: u32,
    },
    /// The links are of another cluster. Measure them for these workers.
    #[error("links between {links} workers do not belong to a cluster of {workers}: measure anew")]
    OtherCluster {
        /// Workers that the links connect.
        links: usize,
        /// Workers of the request.
        workers: usize,
    },
    /// A measured number is none. Measure the worker again.
    #[error("{name}'s {what} is {value}, which cannot be measured: profile it again")]
    Profile {
        /// The worker's name.
        name: String,
        /// The number's name and unit.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// A link's number is none. Measure the link again.
    #[error("the link from {from} to {to} has a {what} of {value}: measure it again")]
    Link {
        /// Name of the worker that sends.
        from: String,
        /// Name of the worker that receives.
        to: String,
        /// The number's name and unit.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// A pin is outside the model. Correct it.
    #[error(
        "{name} is pinned to layers {first}..{end} of a model that has 0..{layers}: correct it"
    )]
    PinOutside {
        /// The worker's name.
        name: String,
        /// First pinned layer.
        first: usize,
        /// One past the last.
        end: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// Two workers are pinned to one layer. Take one of the pins back.
    #[error("{name} and {other} are both pinned to layer {layer}: take one of the pins back")]
    PinsOverlap {
        /// A worker's name.
        name: String,
        /// The other's.
        other: String,
        /// The first layer they share.
        layer: usize,
    },
    /// A pin asks for more than the worker may hold. Shorten it, or allow more.
    #[error(
        "{name} is pinned to {}, but its memory and limits allow {allowed}{}: shorten the pin or \
         allow more", counted(*pinned as u64, "layer"), lacking(*short_bytes)
    )]
    PinTooLong {
        /// The worker's name.
        name: String,
        /// Layers pinned.
        pinned: usize,
        /// Layers it may hold.
        allowed: usize,
        /// Bytes that it lacks; 0 if something else than memory is in the way.
        short_bytes: u64,
    },
    /// Pinned workers are of several classes. Unpin some.
    #[error(
        "{name} is of class {class}, but {other}, which is pinned too, of {other_class}: unpin \
         one of them, since a video stays in one class"
    )]
    PinsMixed {
        /// A pinned worker's name.
        name: String,
        /// Its class.
        class: String,
        /// The other's name.
        other: String,
        /// The other's class.
        other_class: String,
    },
    /// No worker can decode, or none can encode text. Add one that can.
    #[error("no worker that may take part can {what}: add one that can")]
    Unable {
        /// What it would have to do.
        what: &'static str,
    },
    /// Some could decode, or encode text, but have no room for it. Give one more memory.
    #[error(
        "no worker has room to {what}: {name} lacks least, {}; give it memory, or add a worker",
        Bytes(*short_bytes)
    )]
    NoRoom {
        /// What it would have to do.
        what: &'static str,
        /// The worker that lacks least.
        name: String,
        /// Bytes that it lacks.
        short_bytes: u64,
    },
    /// The memory of all workers together is too small. Add workers or memory.
    #[error(
        "{} of {} a layer and job state need {}, but there are {} and room for {placeable} of \
         them on {}: {} are short; add workers or memory, or run fewer jobs",
        counted(*layers as u64, "layer"), Bytes(*layer_bytes), Bytes(*need_bytes),
        Bytes(*usable_bytes), listed(names), Bytes(*short_bytes)
    )]
    TooLarge {
        /// Layers of the model.
        layers: usize,
        /// Bytes of one, for all jobs.
        layer_bytes: u64,
        /// Bytes of layers, ends, text side and decoder, without activations.
        need_bytes: u64,
        /// Bytes that the class with most room may use.
        usable_bytes: u64,
        /// Layers for which that class has room.
        placeable: usize,
        /// Names of that class's workers.
        names: Vec<String>,
        /// Bytes that they lack, at the least.
        short_bytes: u64,
    },
    /// Memory would do, but what must stand together cannot. Connect or relieve workers.
    #[error(
        "there is room for {placeable} layers where {layers} are needed, but no chain of connected \
         workers holds them beside text encoding and decoding: connect more workers both ways, \
         or add memory"
    )]
    NoChain {
        /// Layers of the model.
        layers: usize,
        /// Layers for which the class with most room has room.
        placeable: usize,
    },
}

/// Checks a request as far as no search is needed.
pub(super) fn request(request: &Request) -> Result<(), Error> {
    let Request { work, workers, links, .. } = request;
    if workers.is_empty() {
        return Err(Error::NoWorkers);
    }
    if work.layers == 0 {
        return Err(Error::NoLayers);
    }
    for chunk in [work.first_chunk, work.later_chunks] {
        if chunk.passes == 0 || chunk.runs < chunk.passes {
            return Err(Error::NoRuns { passes: chunk.passes, runs: chunk.runs });
        }
    }
    if links.workers() != workers.len() {
        return Err(Error::OtherCluster { links: links.workers(), workers: workers.len() });
    }
    workers.iter().try_for_each(check_profile)?;
    check_links(request)?;
    check_pins(request)
}

fn check_profile(worker: &Worker) -> Result<(), Error> {
    let speed = &worker.speed;
    let measured = [
        ("time per layer in seconds", speed.layer_seconds, speed.layer_seconds <= 0.0),
        ("time of the embedding in seconds", speed.embedding_seconds, false),
        ("time of the head in seconds", speed.head_seconds, false),
        ("time of decoding in seconds", speed.decode_seconds.unwrap_or(0.0), false),
        ("time of text encoding in seconds", speed.text_seconds.unwrap_or(0.0), false),
        ("share of the layers", worker.limits.layers_share_max.unwrap_or(1.0), false),
    ];
    for (what, value, zero) in measured {
        if !value.is_finite() || value < 0.0 || zero {
            return Err(Error::Profile { name: worker.name.clone(), what, value });
        }
    }
    Ok(())
}

fn check_links(Request { workers, links, .. }: &Request) -> Result<(), Error> {
    for (from, sender) in workers.iter().enumerate() {
        for (to, receiver) in workers.iter().enumerate() {
            let Some(link) = links.between(from, to) else { continue };
            let rate = link.bytes_per_second;
            let latency = link.latency_seconds;
            let fault = |what, value| {
                let (from, to) = (sender.name.clone(), receiver.name.clone());
                Err(Error::Link { from, to, what, value })
            };
            if !rate.is_finite() || rate <= 0.0 {
                return fault("bandwidth in bytes a second", rate);
            }
            if !latency.is_finite() || latency < 0.0 {
                return fault("latency in seconds", latency);
            }
        }
    }
    Ok(())
}

fn check_pins(request: &Request) -> Result<(), Error> {
    let Request { work, workers, classes, .. } = request;
    let pinned = |worker: &'_ usize| workers[*worker].limits.layers.is_some();
    let pins: Vec<_> = (0..workers.len()).filter(pinned).collect();
    let range = |worker: usize| workers[worker].limits.layers.clone().unwrap_or(0..0);
    let name = |worker: usize| workers[worker].name.clone();
    let layers = work.layers;
    for (place, &worker) in pins.iter().enumerate() {
        let pin = range(worker);
        if pin.is_empty() || layers < pin.end {
            let (first, end) = (pin.start, pin.end);
            return Err(Error::PinOutside { name: name(worker), first, end, layers });
        }
        for &other in &pins[..place] {
            let (name, other_name) = (name(worker), name(other));
            let layer = pin.start.max(range(other).start);
            if layer < pin.end.min(range(other).end) {
                return Err(Error::PinsOverlap { name: other_name, other: name, layer });
            }
            let (class, other_class) = (&workers[worker].class, &workers[other].class);
            if *classes == Classes::One && class != other_class {
                let (class, other_class) = (other_class.clone(), class.clone());
                return Err(Error::PinsMixed { name: other_name, class, other: name, other_class });
            }
        }
    }
    let problem = Problem::new(request, &(0..workers.len()).collect::<Vec<_>>());
    for &worker in &pins {
        let pinned = range(worker).len();
        let (first, last) = (range(worker).start == 0, range(worker).end == layers);
        let allowed = problem.layers_max(worker, Roles { first, last, ..Roles::default() });
        if allowed < pinned {
            let short_bytes = pin_short_bytes(request, worker, first, last);
            return Err(Error::PinTooLong { name: name(worker), pinned, allowed, short_bytes });
        }
    }
    Ok(())
}

/// What keeps a request that no search could place from fitting anywhere.
pub(super) fn fits_nowhere(request: &Request) -> Error {
    let (work, jobs) = (&request.work, request.objective.jobs());
    let problems: Vec<_> =
        search::classes(request).iter().map(|class| Problem::new(request, class)).collect();
    let decodes = Roles { decodes: true, ..Roles::default() };
    let encodes = Roles { encodes: true, ..Roles::default() };
    let decoders = |problem: &Problem| problem.decoders.clone();
    let texts = |problem: &Problem| problem.texts.clone();
    let unable = no_room(&problems, "decode", decodes, decoders)
        .or_else(|| no_room(&problems, "encode text", encodes, texts));
    if let Some(error) = unable {
        return error;
    }
    let room = |workers: Vec<usize>| {
        let problem = Problem::new(request, &workers);
        let layers = workers.iter().map(|&worker| problem.layers_max(worker, Roles::default()));
        let usable = workers.iter().map(|&worker| request.workers[worker].usable_bytes());
        (layers.fold(0, usize::saturating_add), usable.fold(0, u64::saturating_add), workers)
    };
    let (placeable, usable_bytes, workers) =
        search::classes(request).into_iter().map(room).max().unwrap_or_default();
    let layers = work.layers;
    let footprint = &work.footprint;
    let layer_bytes = footprint.layer(jobs);
    let others = [
        footprint.first_stage_bytes,
        footprint.last_stage_bytes,
        footprint.text_bytes,
        footprint.decoder(jobs),
    ];
    let need_bytes =
        others.into_iter().fold(layer_bytes.saturating_mul(layers as u64), u64::saturating_add);
    if placeable < layers || usable_bytes < need_bytes {
        let homeless = layer_bytes.saturating_mul(layers.saturating_sub(placeable) as u64);
        return Error::TooLarge {
            layers,
            layer_bytes,
            need_bytes,
            usable_bytes,
            placeable,
            names: workers.iter().map(|&worker| request.workers[worker].name.clone()).collect(),
            short_bytes: homeless.max(need_bytes.saturating_sub(usable_bytes)),
        };
    }
    Error::NoChain { layers, placeable }
}

/// Why nobody of these can take a role, if nobody can.
fn no_room(
    problems: &[Problem],
    what: &'static str,
    roles: Roles,
    able: impl Fn(&Problem) -> Vec<usize>,
) -> Option<Error> {
    let lacks = |problem: &Problem| {
        let lack = |worker: usize| (problem.lacking_beside(worker, roles), worker);
        able(problem).into_iter().map(lack).min()
    };
    let least = problems
        .iter()
        .filter_map(|problem| Some((lacks(problem)?, problem)))
        .min_by_key(|&(lack, _)| lack);
    match least {
        None => Some(Error::Unable { what }),
        Some(((0, _), _)) => None,
        Some(((short_bytes, worker), problem)) => {
            let name = problem.request.workers[worker].name.clone();
            Some(Error::NoRoom { what, name, short_bytes })
        }
    }
}

/// Bytes that a pinned worker lacks for its layers.
fn pin_short_bytes(request: &Request, worker: usize, first: bool, last: bool) -> u64 {
    let (footprint, jobs) = (&request.work.footprint, request.objective.jobs());
    let worker = &request.workers[worker];
    let pinned = worker.limits.layers.as_ref().map_or(0, |layers| layers.len() as u64);
    let ends = [(first, footprint.first_stage_bytes), (last, footprint.last_stage_bytes)];
    let ends = ends.into_iter().filter(|&(is_end, _)| is_end).map(|(_, bytes)| bytes);
    let layers = footprint.layer(jobs).saturating_mul(pinned);
    let need = sum(ends.chain([layers, footprint.stage_bytes]));
    need.saturating_sub(worker.usable_bytes())
}

/// What is said of bytes that are short, if any are.
fn lacking(short_bytes: u64) -> String {
    match short_bytes {
        0 => String::new(),
        short => format!(", {} short", Bytes(short)),
    }
}
