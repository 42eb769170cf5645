//! Spans to an OpenTelemetry collector, by OTLP over gRPC.
//!
//! ```text
//!  layer ──▶ queue ──▶ a thread ── batches ──▶ collector
//! ```
//!
//! Whoever ends a span never waits: one that finds the queue full is dropped, which
//! is said once. At most [`QUEUE_MAX`] spans wait, and a batch that the collector does
//! not take is lost.

mod layer;
mod watched;

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor},
};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use self::{layer::Spans, watched::Watched};

/// Spans that may wait, of less than a kilobyte each. Chosen: some minutes of a video.
const QUEUE_MAX: usize = 8192;
/// Spans that are sent at once.
const BATCH_MAX: usize = 512;
/// How long spans wait for others.
const DELAY: Duration = Duration::from_secs(2);
/// How long a batch may take, with all attempts to send it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Crates whose spans are sent.
const TARGETS: [&str; 2] = ["coordinator", "worker"];

/// What sends spans.
pub(super) struct Export {
    processor: Arc<BatchSpanProcessor>,
}

impl Export {
    /// Begins, in the context of a runtime. Nothing is sent yet: a collector may come
    /// late, and go away.
    ///
    /// # Errors
    ///
    /// What to give, if this is no address of a collector.
    pub(super) fn start(url: &str, name: &str) -> Result<Self, String> {
        if !url.starts_with("http://") {
            let advice =
                "give http://HOST:PORT of a collector that takes OTLP by gRPC, without TLS";
            return Err(advice.to_owned());
        }
        let exporter = SpanExporter::builder().with_tonic();
        let exporter = exporter.with_endpoint(url).with_timeout(EXPORT_TIMEOUT).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(Watched::new(exporter), config);
        let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "filmloom".to_owned());
        let instance = KeyValue::new("service.instance.id", name.to_owned());
        let resource = Resource::builder().with_service_name(service).with_attribute(instance);
        processor.set_resource(&resource.build());
        Ok(Self { processor: Arc::new(processor) })
    }

    /// What hands it the spans of coordinator and worker.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let is_ours = |metadata: &Metadata<'_>| {
            let target = metadata.target().split("::").next();
            metadata.is_span() && target.is_some_and(|target| TARGETS.contains(&target))
        };
        let filter = filter_fn(is_ours).with_max_level_hint(LevelFilter::DEBUG);
        Spans::new(Arc::clone(&self.processor)).with_filter(filter)
    }

    /// Sends what waits, for a few seconds at most.
    pub(super) fn flush(&self) {
        if let Err(error) = self.processor.force_flush() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
