//! What `serve` and `worker` run in: threads that carry messages, and what the
//! process says of itself.
//!
//! ```text
//!  events ──▶ standard error, down to FILMLOOM_LOG
//!  spans ───▶ a collector, if there is one (--otlp)
//! ```
//!
//! Without a collector, and with FILMLOOM_LOG above debug, spans are not made at all.

use std::future::Future;

use tokio::runtime::Runtime;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};

#[cfg(feature = "otlp")]
use super::otlp::Export;
use crate::failure::Failure;

/// Threads that carry messages; those that compute are the device's own.
const NETWORK_THREADS: usize = 2;

/// The collector's address in the environment of programs that send it spans.
#[cfg(feature = "otlp")]
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A process of a pool.
pub(super) struct Process {
    runtime: Runtime,
    #[cfg(feature = "otlp")]
    export: Option<Export>,
}

impl Process {
    /// Begins to say what happens. Spans go to the collector at `otlp`, as those of
    /// `name`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if this build sends no spans, or the collector's address is
    /// none.
    pub(super) fn start(otlp: Option<&str>, name: &str) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let level = std::env::var("FILMLOOM_LOG").ok().and_then(|level| level.parse().ok());
        let level = level.unwrap_or(LevelFilter::INFO);
        #[cfg(feature = "otlp")]
        {
            let set = std::env::var(ENDPOINT).ok().filter(|url| !url.is_empty());
            let given = otlp.map(|url| ("--otlp", url.to_owned()));
            let given = given.or_else(|| Some((ENDPOINT, set?)));
            // The connection is a task of the runtime.
            let _inside = runtime.enter();
            let start = |(said, url): (&str, String)| {
                let export = Export::start(&url, name);
                export.map_err(|advice| Failure::Input(format!("{said} {url}: {advice}")))
            };
            let export = given.map(start).transpose()?;
            say(subscriber(level).with(export.as_ref().map(Export::layer)));
            Ok(Self { runtime, export })
        }
        #[cfg(not(feature = "otlp"))]
        match otlp {
            Some(url) => Err(Failure::Input(format!(
                "--otlp {url}: {name} sends no spans, as this filmloom was built without \
                 --features otlp"
            ))),
            None => {
                say(subscriber(level));
                Ok(Self { runtime })
            }
        }
    }

    /// Runs to the end, and sends the spans that wait.
    pub(super) fn run<T>(
        self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let result = self.runtime.block_on(future);
        #[cfg(feature = "otlp")]
        if let Some(export) = &self.export {
            export.flush();
        }
        result
    }
}

/// A runtime for what waits on sockets.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("cannot start threads: {error}")))
}

/// Writes what happens to standard error, down to this level.
fn subscriber(
    level: LevelFilter,
) -> impl Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync {
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    Registry::default().with(lines.with_filter(level))
}

/// Without a subscriber nothing is written, which is no reason to stop.
fn say(subscriber: impl SubscriberInitExt) {
    drop(subscriber.try_init());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collector_that_cannot_be_is_refused_before_anything_begins() {
        let refused = Process::start(Some("ftp://box:4317"), "w1").err().unwrap().to_string();

        let advice =
            if cfg!(feature = "otlp") { "give http://HOST:PORT" } else { "--features otlp" };
        assert!(refused.contains(advice), "{refused}");
        assert!(refused.contains("--otlp ftp://box:4317"), "{refused}");
    }

    #[test]
    fn spans_are_not_made_unless_somebody_listens() {
        let quiet = || subscriber(LevelFilter::INFO);

        let is_made = |subscriber| {
            tracing::subscriber::with_default(subscriber, || {
                !tracing::debug_span!(parent: None, "run").is_disabled()
            })
        };

        assert!(!is_made(quiet()));
        assert!(is_made(subscriber(LevelFilter::DEBUG)));
    }
}
