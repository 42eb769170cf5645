//! A chunk's way through its passes: what can be run now, and what follows when
//! it has been.
//!
//! ```text
//! poll_run     denoise 0 uncond   denoise 0 cond      (nothing)         denoise 1 ...
//! handle_run                                     uncond, cond are back
//!                                                -> the pass: mix, move the frames on
//! ```
//!
//! The branches of a pass do not wait for each other, so they follow one another
//! through a pipeline; a pass waits for all of the one before it, whose
//! velocities make its input. Whoever holds the frames does the arithmetic that
//! a finished pass asks for, then polls again.
//!
//! Invariants: runs are polled in the list's order, the unconditional branch
//! first; every run is polled once and handled once.

use types::Branch;

use crate::passes::{Branches, ChunkPasses, PassPlan};

/// A chunk between noise and its commit.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkRuns {
    passes: Vec<PassPlan>,
    /// Place of the pass whose runs are out or due.
    pass: usize,
    /// Branches of that pass that were polled.
    polled: usize,
    /// Those of them that are back.
    back: Vec<Branch>,
}

/// A run that can be submitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The pass it is of.
    pub pass: PassPlan,
    /// The prompt it runs under.
    pub branch: Branch,
}

/// A run came back that is not out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step} of the {branch} branch is not on its way")]
pub struct NotOut {
    /// The run's step.
    pub step: u32,
    /// The run's branch.
    pub branch: Branch,
}

impl ChunkRuns {
    /// Nothing has run yet.
    pub fn new(ChunkPasses { passes }: ChunkPasses) -> Self {
        Self { passes, pass: 0, polled: 0, back: Vec::new() }
    }

    /// Passes of the chunk, the commit pass among them.
    pub fn passes(&self) -> &[PassPlan] {
        &self.passes
    }

    /// The next run, if one can be submitted before another one is back.
    pub fn poll_run(&mut self) -> Option<Run> {
        let pass = *self.passes.get(self.pass)?;
        let branch = *order(pass.branches).get(self.polled)?;
        self.polled += 1;
        Some(Run { pass, branch })
    }

    /// Whether a run was polled and is not back yet.
    pub fn is_out(&self, step: u32, branch: Branch) -> bool {
        let pass = self.passes.get(self.pass).filter(|pass| pass.step == step);
        let polled = pass.map_or(&[][..], |pass| &order(pass.branches)[..self.polled]);
        polled.contains(&branch) && !self.back.contains(&branch)
    }

    /// A run is back. Gives the pass if that was its last one: its update of the
    /// frames is due before the next poll.
    ///
    /// # Errors
    ///
    /// [`NotOut`] if it was not polled, or is back already; nothing has changed
    /// then.
    pub fn handle_run(&mut self, step: u32, branch: Branch) -> Result<Option<PassPlan>, NotOut> {
        if !self.is_out(step, branch) {
            return Err(NotOut { step, branch });
        }
        let pass = self.passes[self.pass];
        self.back.push(branch);
        if self.back.len() < pass.branches.count() {
            return Ok(None);
        }
        self.pass += 1;
        self.polled = 0;
        self.back.clear();
        Ok(Some(pass))
    }

    /// Whether every pass is done, the commit pass too.
    pub fn is_done(&self) -> bool {
        self.pass == self.passes.len()
    }
}

/// Branches in the order in which they run.
fn order(branches: Branches) -> &'static [Branch] {
    match branches {
        Branches::Conditional => &[Branch::Conditional],
        Branches::Guided { .. } => &[Branch::Unconditional, Branch::Conditional],
    }
}

#[cfg(test)]
mod tests {
    use types::{Sampler, SizedChunk, StepList, Update};

    use super::*;
    use crate::passes::{PassUpdate, chunk_passes};

    #[test]
    fn guided_branches_go_out_together_and_a_pass_waits_for_both() {
        let mut runs = runs(2, 2.5);
        let polled = |runs: &mut ChunkRuns| runs.poll_run().map(|run| (run.pass.step, run.branch));

        assert_eq!(polled(&mut runs), Some((0, Branch::Unconditional)));
        assert_eq!(polled(&mut runs), Some((0, Branch::Conditional)));
        assert_eq!(polled(&mut runs), None);
        // In whatever order they are back.
        assert_eq!(runs.handle_run(0, Branch::Conditional), Ok(None));
        assert_eq!(polled(&mut runs), None);
        let finished = runs.handle_run(0, Branch::Unconditional).unwrap().unwrap();
        assert_eq!((finished.step, finished.branches), (0, Branches::Guided { weight: 2.5 }));
        assert_eq!(polled(&mut runs), Some((1, Branch::Unconditional)));
    }

    #[test]
    fn runs_are_those_of_the_list_and_the_commit_is_the_last() {
        let mut runs = runs(10, 2.5);
        let (mut count, mut last) = (0, None);
        while let Some(run) = runs.poll_run() {
            count += 1;
            last = runs.handle_run(run.pass.step, run.branch).unwrap().or(last);
        }

        assert_eq!(count, 21);
        assert_eq!(last.unwrap().update, PassUpdate::Discard);
        assert!(runs.is_done());
    }

    #[test]
    fn what_is_not_out_cannot_come_back() {
        let mut runs = runs(2, 1.0);
        let not_out = |step, branch| Err(NotOut { step, branch });
        let (conditional, unconditional) = (Branch::Conditional, Branch::Unconditional);
        assert_eq!(runs.handle_run(0, conditional), not_out(0, conditional));

        runs.poll_run();

        assert_eq!(runs.handle_run(1, conditional), not_out(1, conditional));
        assert_eq!(runs.handle_run(0, unconditional), not_out(0, unconditional));
        assert!(runs.handle_run(0, conditional).is_ok());
        assert_eq!(runs.handle_run(0, conditional), not_out(0, conditional), "twice");
    }

    fn runs(steps: usize, guidance: f32) -> ChunkRuns {
        let chunk = SizedChunk { steps: StepList::Even(steps), guidance };
        let (first_chunk, later_chunks) = (chunk.clone(), chunk);
        let sampler = Sampler { update: Update::Euler, shift: 3.0, first_chunk, later_chunks };
        ChunkRuns::new(chunk_passes(&sampler, 0).unwrap())
    }
}
