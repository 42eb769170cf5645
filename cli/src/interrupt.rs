//! Ctrl-C and a request to terminate: the first one asks, the second one ends.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::failure::Failure;

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on, for the rest of the process. `wake` is called on
    /// another thread after the first signal; it must not wait for anything.
    /// The second signal ends the process at once, with status 130.
    ///
    /// # Errors
    ///
    /// [`Failure::Machine`] if the system refuses, or if somebody listens already.
    pub(crate) fn listen(wake: impl Fn() + Send + 'static) -> Result<Self, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        let handler = move || {
            if heard.swap(true, Ordering::SeqCst) {
                process::exit(130);
            }
            wake();
        };
        ctrlc::set_handler(handler)
            .map_err(|error| Failure::Machine(format!("cannot listen for Ctrl-C: {error}")))?;
        Ok(Self(asked))
    }

    /// Whether the user asked to stop.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Listens to nobody but [`Interrupt::ask`].
    #[cfg(test)]
    pub(crate) fn deaf() -> Self {
        Self(Arc::default())
    }

    /// Asks to stop.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
