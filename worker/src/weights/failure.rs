//! Why weights cannot be had, and what to do about a single attempt that failed.
//!
//! A connection that broke is opened again, for as long as something comes over it
//! now and then; a blob that arrives damaged is fetched again, a few times; anything
//! else ends the fetch at once.

use std::time::{Duration, Instant};

use checkpoint::Problem;
use tonic::{Code, Status};
use types::ModelDigest;

/// Waits between attempts: the first, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(3);
/// How long nothing at all may come.
const STUCK_MAX: Duration = Duration::from_secs(300);
/// Times that a blob may arrive damaged.
pub(super) const DAMAGED_MAX: u32 = 3;

/// Why weights cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// This worker has another model, and fetches none.
    #[error(
        "model {wanted} is asked for, this worker has {}, and fetches none: start it with the \
         model's folder, or let it fetch", local.map_or("none".to_owned(), |local| local.to_string())
    )]
    NotHere {
        /// What is asked for.
        wanted: ModelDigest,
        /// What is here.
        local: Option<ModelDigest>,
    },
    /// The coordinator does not hand it out. Act on what it says.
    #[error("the coordinator does not hand out weights: {0}")]
    Refused(String),
    /// The coordinator was away for too long.
    #[error(
        "no weights came for {seconds} seconds: {0}: see that the coordinator can be reached",
        seconds = STUCK_MAX.as_secs()
    )]
    Away(String),
    /// What comes is never what was asked for.
    #[error("weights arrived damaged {DAMAGED_MAX} times: {0}")]
    Damaged(Problem),
    /// The folder has no room, or cannot be written.
    #[error("fetched weights cannot be kept: {0}")]
    Kept(Problem),
    /// All that is to be held does not fit into the folder.
    #[error(
        "what is to be held here has {bytes} bytes of weights, its folder may have {bytes_max}: \
         start this worker with a larger --cache, or with fewer --layers"
    )]
    CacheTooSmall {
        /// What is to be held.
        bytes: u64,
        /// What may be kept.
        bytes_max: u64,
    },
    /// What was fetched is not the model, or the model's files are damaged.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The process stops.
    #[error("this worker stops")]
    Stopping,
}

/// Why an attempt ended.
#[derive(Debug)]
pub(super) enum Setback {
    /// The connection broke, or nothing came.
    Broken(String),
    /// Others are being served, or an attempt before this one has not ended.
    Busy,
    /// What came is not what was asked for.
    Damaged(Problem),
    /// Trying again is no use.
    Final(Failure),
}

impl From<Status> for Setback {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::ResourceExhausted => Self::Busy,
            Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::DataLoss => Self::Final(Failure::Refused(message)),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable => Self::Broken(message),
        }
    }
}

impl From<Problem> for Setback {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Busy { .. } => Self::Busy,
            Problem::Short { .. } => Self::Broken(problem.to_string()),
            Problem::TooLong { .. } | Problem::Damaged { .. } => Self::Damaged(problem),
            Problem::Io { .. } | Problem::Full { .. } => Self::Final(Failure::Kept(problem)),
        }
    }
}

/// How often and how long one goes on.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    damaged: u32,
    moved_at: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { wait: WAIT_MIN, damaged: 0, moved_at: now }
    }

    /// Something came.
    pub(super) fn handle_moved(&mut self, now: Instant) {
        (self.wait, self.moved_at) = (WAIT_MIN, now);
    }

    /// Gives the time to wait before the next attempt.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn handle_setback(
        &mut self,
        now: Instant,
        setback: Setback,
    ) -> Result<Duration, Failure> {
        match setback {
            Setback::Final(failure) => return Err(failure),
            Setback::Damaged(problem) => {
                self.damaged += 1;
                if DAMAGED_MAX <= self.damaged {
                    return Err(Failure::Damaged(problem));
                }
                tracing::warn!(%problem, "weights arrived damaged");
            }
            Setback::Busy => {
                if STUCK_MAX <= now.saturating_duration_since(self.moved_at) {
                    return Err(Failure::Away("it serves others".to_owned()));
                }
                tracing::info!("weights do not come, others are being served");
            }
            Setback::Broken(problem) => {
                if STUCK_MAX <= now.saturating_duration_since(self.moved_at) {
                    return Err(Failure::Away(problem));
                }
                tracing::info!(%problem, "weights do not come, this is tried again");
            }
        }
        let wait = self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use checkpoint::Digest;

    use super::*;

    #[test]
    fn a_coordinator_that_is_away_is_waited_for_as_long_as_something_comes_now_and_then() {
        let begin = Instant::now();
        let mut patience = Patience::new(begin);
        let broken = || Setback::Broken("it is away".to_owned());
        let almost = STUCK_MAX - Duration::from_millis(1);

        assert_eq!(patience.handle_setback(begin, broken()).unwrap(), WAIT_MIN);
        assert_eq!(patience.handle_setback(begin + almost, broken()).unwrap(), WAIT_MIN * 2);
        patience.handle_moved(begin + almost);
        assert_eq!(patience.handle_setback(begin + 2 * almost, broken()).unwrap(), WAIT_MIN);
        assert!(patience.handle_setback(begin + 2 * almost, Setback::Busy).is_ok());
        let given_up = patience.handle_setback(begin + almost + STUCK_MAX, broken());
        assert!(given_up.unwrap_err().to_string().contains("300 seconds: it is away"));
        let given_up = patience.handle_setback(begin + almost + STUCK_MAX, Setback::Busy);
        assert!(given_up.unwrap_err().to_string().contains("it serves others"));
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        let waits: Vec<Duration> =
            (0..9).map(|_| patience.handle_setback(now, Setback::Busy).unwrap()).collect();
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&WAIT_MAX));
    }

    #[test]
    fn damage_is_forgiven_twice_and_a_full_disk_never() {
        let now = Instant::now();
        let digest = Digest::of(b"weights");
        let damaged = || Setback::from(Problem::Damaged { digest, bytes: 7 });
        let mut patience = Patience::new(now);
        assert!(patience.handle_setback(now, damaged()).is_ok());
        // What came in between was damaged too.
        patience.handle_moved(now);
        assert!(patience.handle_setback(now, damaged()).is_ok());
        let given_up = patience.handle_setback(now, damaged()).unwrap_err().to_string();
        assert!(given_up.contains("3 times") && given_up.contains(&digest.to_string()));

        let (path, cause) = ("blobs".into(), std::io::ErrorKind::StorageFull.into());
        let full = Setback::from(Problem::Io { path, cause });
        let failure = Patience::new(now).handle_setback(now, full).unwrap_err();
        assert!(matches!(failure, Failure::Kept(_)), "{failure}");
    }

    #[test]
    fn what_the_coordinator_refuses_is_not_asked_for_again() {
        let now = Instant::now();
        let refused = Setback::from(Status::not_found("this node hands out another model"));
        let failure = Patience::new(now).handle_setback(now, refused).unwrap_err();
        assert!(failure.to_string().contains("another model"), "{failure}");
    }
}
