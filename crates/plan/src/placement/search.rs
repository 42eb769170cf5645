//! From a request to a plan: which search is asked, and what is settled afterwards.

use super::{
    Classes, Error, Placement, Plan, Prediction, Request, check, exact, explain, heuristic,
    predict::predict,
    problem::{Problem, Team},
    split::Split,
};

/// Workers among which the exact search chooses stages; above, the heuristic alone
/// does. Chosen: every further worker triples the exact search's time.
pub const EXACT_WORKERS_MAX: usize = 10;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Exactly up to [`EXACT_WORKERS_MAX`] workers that can hold a layer, else by
    /// the heuristic.
    Best,
    /// By the heuristic, for comparison.
    Heuristic,
}

/// Plans a request.
///
/// # Errors
///
/// [`Error`] if the request contradicts itself or fits nowhere.
pub fn plan(request: &Request) -> Result<Plan, Error> {
    plan_with(request, Method::Best)
}

/// Plans a request with a given method.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_with(request: &Request, method: Method) -> Result<Plan, Error> {
    check::request(request)?;
    let mut best: Option<(Problem, Team, Split)> = None;
    for workers in classes(request) {
        let problem = Problem::new(request, &workers);
        let found = search(&problem, method);
        let bound = best.as_ref().map_or(f64::INFINITY, |(_, _, split)| split.seconds);
        if let Some((team, split)) = found.filter(|(_, split)| split.seconds < bound) {
            best = Some((problem, team, split));
        }
    }
    let Some((problem, team, split)) = best else { return Err(check::fits_nowhere(request)) };
    let placement = settled(&problem, team.placement(&split.layers));
    let prediction = predicted(request, &placement);
    let explanation = explain::explain(&problem, &team, &prediction);
    Ok(Plan { placement, prediction, explanation })
}

/// The sets of workers that may stand together and hold all pins.
pub(super) fn classes(request: &Request) -> Vec<Vec<usize>> {
    let workers = &request.workers;
    let all = 0..workers.len();
    if request.classes == Classes::Mixed {
        return vec![all.collect()];
    }
    let first_of_class =
        |&worker: &usize| !workers[..worker].iter().any(|w| w.class == workers[worker].class);
    let class = |of: usize| {
        let alike = |&worker: &usize| workers[worker].class == workers[of].class;
        all.clone().filter(alike).collect::<Vec<_>>()
    };
    let has_pins = |class: &Vec<usize>| {
        all.clone().all(|worker| workers[worker].limits.layers.is_none() || class.contains(&worker))
    };
    all.clone().filter(first_of_class).map(class).filter(has_pins).collect()
}

fn search(problem: &Problem, method: Method) -> Option<(Team, Split)> {
    let found = heuristic::search(problem);
    if method == Method::Heuristic || EXACT_WORKERS_MAX < problem.stage_workers() {
        return found;
    }
    let bound = found.as_ref().map_or(f64::INFINITY, |(_, split)| split.seconds);
    exact::search(problem, bound).or(found)
}

/// Of the decoders, then of the text sides that make chunks no slower, those that
/// give the first chunk soonest; of equals, those that stand beside a stage.
fn settled(problem: &Problem, placement: Placement) -> Placement {
    let decoders = problem.decoders.iter();
    let decoders = decoders.map(|&decoder| Placement { decoder, ..placement.clone() });
    let placement = soonest(problem.request, decoders, placement.clone());
    let texts = problem.texts.iter().map(|&text| Placement { text, ..placement.clone() });
    soonest(problem.request, texts, placement.clone())
}

fn predicted(request: &Request, placement: &Placement) -> Prediction {
    predict(request, placement).expect("a search takes existing ways only")
}

fn soonest(
    request: &Request,
    others: impl Iterator<Item = Placement>,
    placement: Placement,
) -> Placement {
    let mut best = placement;
    let mut now = predicted(request, &best);
    for other in others {
        let Ok(then) = predict(request, &other) else { continue };
        let sooner = then
            .first_chunk_seconds
            .total_cmp(&now.first_chunk_seconds)
            .then(apart(&other).cmp(&apart(&best)))
            .is_lt();
        if then.fits() && then.seconds_per_chunk <= now.seconds_per_chunk && sooner {
            (best, now) = (other, then);
        }
    }
    best
}

/// How many of decoder and text side stand on a worker without a stage.
fn apart(placement: &Placement) -> usize {
    let staged = |worker| placement.stages.iter().any(|stage| stage.worker == worker);
    [placement.decoder, placement.text].into_iter().filter(|&worker| !staged(worker)).count()
}
