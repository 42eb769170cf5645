//! What was measured, as a table beside what the planner says.

use crate::{
    ARMS, Arm,
    crew::{LAST, LEAD, MEMBERS},
    theory::Theory,
};

/// Places in [`ARMS`].
const ALONE: [usize; 2] = [0, 1];
const PLAIN: usize = 2;
const AHEAD: usize = 3;
const TWO_JOBS: usize = 4;
const APART: usize = 6;

/// What an arm gave in a round.
pub(crate) struct Measured {
    /// Seconds per chunk, of all jobs together.
    pub(crate) seconds: Vec<f64>,
    /// Share of the time in which each member computed.
    pub(crate) busy: [f64; MEMBERS],
}

/// All rounds of all arms.
#[derive(Default)]
pub(crate) struct Report([Vec<Measured>; ARMS.len()]);

impl Report {
    /// One more round of an arm.
    pub(crate) fn add(&mut self, arm: usize, measured: Measured) {
        self.0[arm].push(measured);
    }

    pub(crate) fn print(&self, theory: &Theory) {
        let predicted = theory.seconds_per_chunk();
        theory.print();
        println!();
        println!(
            "{:28} {:>8} {:>16} {:>7} {:>9} {:>8}   busy",
            "", "ms/chunk", "of rounds", "to a", "predicted", "error"
        );
        (0..ARMS.len()).for_each(|arm| self.print_arm(arm, predicted[arm]));
        println!();
        self.print_claims(predicted);
        self.print_verdict(theory, 1, AHEAD);
        self.print_verdict(theory, 2, TWO_JOBS);
    }

    /// Whether the planner would pool the cores, and whether the pool is faster.
    fn print_verdict(&self, theory: &Theory, jobs: u32, arm: usize) {
        let (pools, times) = (theory.pools(jobs), 1.0 / self.to_baseline(arm));
        let plan = if pools { "pool" } else { "use one node" };
        let is_right = if pools == (1.0 < times) { "right" } else { "wrong" };
        let what = format!("jobs at once: {jobs}; the pool is as fast as one node times");
        println!("{what:52} {:>8}, planned: {plan}, which is {is_right}", format!("{times:.3}"));
    }

    fn print_claims(&self, predicted: [f64; ARMS.len()]) {
        let baseline = ALONE.map(|arm| predicted[arm]).iter().sum::<f64>() / 2.0;
        let cost = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
        let times = |ratio: f64| format!("{ratio:.3}x");
        let claim = |what: &str, found: String, predicted: String| {
            println!("{what:52} {found:>8}, predicted {predicted}");
        };
        claim(
            "one job over two stages costs, without look-ahead",
            cost(self.to_baseline(PLAIN)),
            cost(predicted[PLAIN] / baseline),
        );
        claim(
            "look-ahead makes it faster",
            times(self.ratio(PLAIN, AHEAD)),
            times(predicted[PLAIN] / predicted[AHEAD]),
        );
        for (what, arm) in [
            ("two jobs over two stages, against one process", TWO_JOBS),
            ("two whole processes at once, against one", APART),
        ] {
            let found = times(1.0 / self.to_baseline(arm));
            claim(what, found, times(baseline / predicted[arm]));
        }
    }

    fn print_arm(&self, arm: usize, predicted: f64) {
        let Arm { name, leads, .. } = &ARMS[arm];
        let all = self.0[arm].iter().flat_map(|round| round.seconds.iter().copied());
        let found = median(all);
        let rounds: Vec<f64> = self.0[arm].iter().map(Measured::median).collect();
        let least = rounds.iter().copied().fold(f64::MAX, f64::min);
        let most = rounds.iter().copied().fold(0.0, f64::max);
        let busy = |&member: &usize| {
            let shares = self.0[arm].iter().map(|round| round.busy[member]);
            format!("{:.0} %", median(shares) * 100.0)
        };
        let members = if *leads == [LEAD] { &[LEAD, LAST][..] } else { leads };
        println!(
            "{name:28} {:8.1} {:>16} {:7.3} {:9.1} {:+6.1} %   {}",
            found * 1e3,
            format!("{:.1} to {:.1}", least * 1e3, most * 1e3),
            self.to_baseline(arm),
            predicted * 1e3,
            (predicted / found - 1.0) * 100.0,
            members.iter().map(busy).collect::<Vec<_>>().join(", "),
        );
    }

    /// How long an arm takes, in chunks of one process: the mean of both cores.
    fn to_baseline(&self, arm: usize) -> f64 {
        let baseline =
            |round: usize| ALONE.map(|arm| self.0[arm][round].median()).iter().sum::<f64>() / 2.0;
        let rounds = self.0[arm].iter().enumerate();
        median(rounds.map(|(round, measured)| measured.median() / baseline(round)))
    }

    /// How many times as long one arm takes as another one.
    fn ratio(&self, over: usize, under: usize) -> f64 {
        let rounds = self.0[over].iter().zip(&self.0[under]);
        median(rounds.map(|(over, under)| over.median() / under.median()))
    }
}

impl Measured {
    fn median(&self) -> f64 {
        median(self.seconds.iter().copied())
    }
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (under, over) = ((values.len() - 1) / 2, values.len() / 2);
    f64::midpoint(values[under], values[over])
}
