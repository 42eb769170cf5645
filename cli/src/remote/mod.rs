//! A pool's server, from the outside.

mod generate;
mod server;

pub(crate) use generate::run as generate;
pub(crate) use server::Server;
