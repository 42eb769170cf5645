//! A pool's server, from the outside.
//!
//! ```text
//!  generate   asks for a video, and ends it well or badly
//!  plan       what would run where, at what speed, and why
//!  making     the video over there: opens with patience, deletes
//!  follow     its events, whatever becomes of the server meanwhile
//!  keep       its pictures, into a file or folder here
//!  told       what is said about all that
//!  download   reads on a thread of its own, so that Ctrl-C waits for nobody
//!  server     HTTP
//! ```

mod download;
mod follow;
mod generate;
mod keep;
mod making;
mod plan;
mod server;
mod told;

#[cfg(test)]
mod test_support;

pub(crate) use generate::run as generate;
pub(crate) use plan::run as plan;
pub(crate) use server::Server;
