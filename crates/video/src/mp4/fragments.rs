//! Pictures to fragments to wherever they go: what a file and a stream have in common.

use std::io;

use super::{Fragment, Fragmenter};
use crate::{
    Options, Picture, Summary,
    guarded::{Failure, Output},
};

/// Where fragments go, after the header.
pub(super) trait Target: Send {
    /// Writes a fragment whole. After a failure, none follows.
    fn write(&mut self, fragment: &Fragment) -> io::Result<()>;

    /// Makes a finished video of the fragments written.
    fn complete(&mut self) -> io::Result<()>;

    /// What can be played at this moment.
    fn summary(&self) -> Summary;
}

/// Makes an [`Output`] of a target: fragments the pictures.
pub(crate) struct Fragments<T> {
    fragmenter: Fragmenter,
    target: T,
}

impl<T> Fragments<T> {
    /// Pictures given from here on go to `target`, cut by `fragmenter`.
    pub(super) fn new(fragmenter: Fragmenter, target: T) -> Self {
        Self { fragmenter, target }
    }

    /// Gives the target back; pictures after the last chunk's end are dropped.
    pub(super) fn into_target(self) -> T {
        self.target
    }
}

impl<T: Target> Output for Fragments<T> {
    fn options(&self) -> &Options {
        self.fragmenter.options()
    }

    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Failure> {
        self.fragmenter.push(picture)?;
        if self.fragmenter.is_full() { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> Result<(), Failure> {
        if let Some(fragment) = self.fragmenter.end_chunk() {
            self.target.write(&fragment)?;
        }
        Ok(())
    }

    fn complete(&mut self) -> io::Result<()> {
        self.target.complete()
    }

    fn summary(&self) -> Summary {
        self.target.summary()
    }
}
