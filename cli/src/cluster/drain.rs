//! `filmloom drain`: a worker finishes what is open on it, and leaves.

use super::{DrainArgs, block_on, manage::Folder};
use crate::{failure::Failure, terminal};

/// Has the coordinator drain a worker. It does not wait for it.
///
/// # Errors
///
/// [`Failure`] if no coordinator runs on the folder, or it has no such worker.
pub(crate) fn run(args: &DrainArgs) -> Result<(), Failure> {
    let folder = Folder::open(args.data.as_ref())?;
    let drained = block_on(async {
        let mut admin = folder.coordinator().await.map_err(|not| {
            Failure::Input(format!("{not}: start `serve` there, or give --data of one that runs"))
        })?;
        Ok(admin.drain(&args.worker).await?)
    })?;
    let first = match drained.open_videos {
        0 => "nothing is open on it".to_owned(),
        1 => "one video is to be finished first".to_owned(),
        videos => format!("{videos} videos are to be finished first"),
    };
    terminal::result(&format!("{} ({}) drains: {first}\n", drained.name, drained.id))
}
