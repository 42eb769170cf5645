//! Says once that a collector takes no spans, and once that it does again.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// An exporter whose failures are told here, and nowhere else.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    is_failing: AtomicBool,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E) -> Self {
        Self { exporter, is_failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "the collector takes no spans: they are lost until it does");
            }
            Ok(()) if was_failing => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use opentelemetry_sdk::error::OTelSdkError;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::{
        Layer, Registry,
        layer::{Context, SubscriberExt},
    };

    use super::*;

    #[test]
    fn collector_that_is_away_is_told_of_once_however_often_it_is_tried() {
        let takes = [false, false, true, true, false].into_iter();
        let watched = Watched::new(Collector(Mutex::new(takes.collect())));
        let told = Told::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

        let subscriber = Registry::default().with(told.clone());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5 {
                assert!(runtime.block_on(watched.export(Vec::new())).is_ok());
            }
        });

        assert_eq!(*told.0.lock().unwrap(), [Level::WARN, Level::INFO, Level::WARN]);
    }

    /// Whether it takes what comes, time by time.
    #[derive(Debug)]
    struct Collector(Mutex<VecDeque<bool>>);

    impl SpanExporter for Collector {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            match self.0.lock().unwrap().pop_front() {
                Some(true) => Ok(()),
                Some(false) | None => Err(OTelSdkError::InternalFailure("away".to_owned())),
            }
        }
    }

    /// Levels of what was said.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Told {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }
}
