//! What must hold at all times.

use super::*;

impl World {
    pub(super) fn check(&self) {
        assert!(self.cluster.placed() <= JOBS_MAX as usize, "places are not overdrawn");
        for (&id, job) in &self.cluster.jobs {
            let count = |counts: &BTreeMap<JobId, u32>| counts.get(&id).copied().unwrap_or(0);
            assert_eq!(job.committed, count(&self.store.log), "{id:?}: the log is followed");
            assert_eq!(job.published, count(&self.store.video), "{id:?}: the video is followed");
            assert!(job.published <= job.committed, "{id:?}: what is shown is in the log");
        }
        for &fence in &self.placed {
            let has_place = self.cluster.placed.contains(&fence.job)
                && self.cluster.job(fence.job).is_some_and(|job| job.epoch == fence.epoch);
            if !has_place {
                let holders = self.holders(fence);
                assert_eq!(holders, [], "a place is free when nobody holds {fence:?}");
            }
        }
    }

    /// Every stage but the lead has confirmed before the lead is opened.
    pub(super) fn check_opening(&self, node: NodeId, fence: Fence) {
        let stages = self.cluster.pipeline().stages();
        if stages.first() == Some(&node) {
            for &stage in &stages[1..] {
                assert!(
                    self.opened.contains(&(stage, fence)),
                    "the lead is opened last: {fence:?}"
                );
            }
        }
    }

    /// Members in a life that the cluster counts on and that hold something of a job.
    pub(super) fn holders(&self, fence: Fence) -> Vec<NodeId> {
        let holds = |(&node, fake): (&NodeId, &Fake)| {
            let is_known = self.cluster.members.get(node).is_some_and(|member| {
                member.boot() == fake.boot
                    && member.presence != Presence::Gone
                    && !(fake.is_hung && member.excluded.is_some())
            });
            let is_excused = self.excused.contains(&(node, fence));
            (is_known && !is_excused && fake.held().contains(&fence)).then_some(node)
        };
        self.workers.iter().filter_map(holds).collect()
    }
}

/// A world that fails tells how it came to that.
impl Drop for World {
    #[expect(clippy::print_stderr, reason = "a failing test's output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.trace.len().saturating_sub(40);
            eprintln!("{:?}\n{}", self.setting, self.trace[last..].join("\n"));
        }
    }
}
