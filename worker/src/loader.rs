//! From what the coordinator wants held to a device that holds it.
//!
//! ```text
//!  wish (the latest) ─▶ weights are here ─▶ the device has loaded ─▶ StageReady
//!         │                    └──────────────────┴─▶ StageFailed
//!         └─ another one ends this one, wherever it is
//! ```
//!
//! Invariant: one wish is followed at a time, so the device never takes an older one
//! after a newer one.

use std::time::Instant;

use checkpoint::Need;
use plan::cluster::Duty;
use proto::control::wire::{self, FromWorker, from_worker::Kind as Said};
use tokio::sync::{mpsc, oneshot, watch};
use types::{ModelDigest, TokenGrid};

use crate::{device::Task, session::said, weights::Weights};

/// What is to be held.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The coordinator's number of it.
    pub(crate) assignment: u64,
    /// Of which model.
    pub(crate) model: ModelDigest,
    /// Which part of it.
    pub(crate) duty: Duty,
    /// Tokens of most chunks.
    pub(crate) grid: TokenGrid,
}

/// Whom a loader works with.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) weights: Weights,
    pub(crate) tasks: mpsc::UnboundedSender<Task>,
    pub(crate) outbox: mpsc::UnboundedSender<FromWorker>,
    /// What the device holds for certain; its weights are not looked for again.
    pub(crate) held: Need,
}

/// Nothing at all.
pub(crate) const NOTHING: Need = Need { layers: None, text: false, decoder: false };

impl Loader {
    /// Follows wishes until there is nobody left to wish. `None` is to hold nothing.
    pub(crate) async fn follow(mut self, mut wishes: watch::Receiver<Option<Wish>>) {
        loop {
            let wish = wishes.borrow_and_update().clone();
            tokio::select! {
                () = self.fulfil(wish) => if wishes.changed().await.is_err() { return },
                changed = wishes.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn fulfil(&mut self, wish: Option<Wish>) {
        let held = std::mem::replace(&mut self.held, NOTHING);
        let Some(wish) = wish else {
            // The process ends with the device's thread.
            return drop(self.tasks.send(Task::Release));
        };
        let (assignment, begun) = (wish.assignment, Instant::now());
        let need = need(&wish.duty);
        let answer = match self.load(wish, rest(&need, &held)).await {
            Ok(()) => {
                self.held = need;
                let load_seconds = begun.elapsed().as_secs_f64();
                Said::StageReady(wire::StageReady { assignment, load_seconds })
            }
            Err(problem) => Said::StageFailed(wire::StageFailed { assignment, problem }),
        };
        drop(self.outbox.send(said(answer)));
    }

    async fn load(&self, wish: Wish, need: Need) -> Result<(), String> {
        let Wish { assignment, model, duty, grid } = wish;
        let checkpoint = self.weights.checkpoint(model, &need).await;
        let checkpoint = checkpoint.map_err(|failure| failure.to_string())?;
        let (reply, loaded) = oneshot::channel();
        drop(self.tasks.send(Task::Load { assignment, checkpoint, duty, grid, reply }));
        loaded.await.map_err(|_| "the device's thread ended".to_owned())?
    }
}

fn need(duty: &Duty) -> Need {
    Need { layers: duty.layers.clone(), text: duty.text, decoder: duty.decoder }
}

/// What of a need a device that holds something lacks. It keeps layers only if they
/// are just those.
fn rest(need: &Need, held: &Need) -> Need {
    Need {
        layers: need.layers.clone().filter(|_| need.layers != held.layers),
        text: need.text && !held.text,
        decoder: need.decoder && !held.decoder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_already_is_not_looked_for_again() {
        let need = |layers, text, decoder| Need { layers, text, decoder };
        let whole = need(Some(2..5), true, true);

        assert_eq!(rest(&whole, &NOTHING), whole);
        assert_eq!(rest(&whole, &whole), NOTHING);
        assert_eq!(rest(&whole, &need(Some(2..6), true, false)), need(Some(2..5), false, true));
        assert_eq!(rest(&need(None, false, false), &whole), NOTHING);
    }
}
