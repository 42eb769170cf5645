//! Spans of `tracing` as OpenTelemetry has them.
//!
//! ```text
//!  trace   the job's id
//!  root    "job" of the coordinator: its id is made of job and epoch
//!  parent  the span's own parent in this process; for one that has none, the root
//! ```
//!
//! So every node knows trace and root without a word on the wire, and all spans of a
//! job fall in one trace, wherever they were made. That is why this is not left to a
//! bridge for any spans, which would draw ids and carry contexts in messages.
//!
//! A span of a job in epoch 0, which no coordinator places, is a trace of its own.

use std::{fmt, sync::Arc, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// The span that is a job's root.
const ROOT: &str = "job";

/// Hands ended spans to a processor.
pub(super) struct Spans<P> {
    processor: Arc<P>,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
}

/// A span that has not ended.
struct Open {
    place: Place,
    begun: SystemTime,
    attributes: Vec<KeyValue>,
}

/// Where a span stands.
#[derive(Clone, Copy)]
struct Place {
    trace: TraceId,
    span: SpanId,
    /// Invalid if it has none.
    parent: SpanId,
    /// Whether the parent may be another process'.
    is_parent_remote: bool,
}

/// Fields of a span.
#[derive(Default)]
struct Fields {
    job: Option<u128>,
    epoch: u64,
    attributes: Vec<KeyValue>,
}

impl<P> Spans<P> {
    pub(super) fn new(processor: Arc<P>) -> Self {
        let scope = InstrumentationScope::builder("filmloom");
        let scope = scope.with_version(env!("CARGO_PKG_VERSION")).build();
        Self { processor, ids: RandomIdGenerator::default(), scope }
    }

    fn place(&self, name: &str, parent: Option<Place>, fields: &Fields) -> Place {
        let span = self.ids.new_span_id();
        if let Some(parent) = parent {
            return Place { span, parent: parent.span, is_parent_remote: false, ..parent };
        }
        let alone = |trace, span| {
            let parent = SpanId::INVALID;
            Place { trace, span, parent, is_parent_remote: false }
        };
        let Some(job) = fields.job else { return alone(self.ids.new_trace_id(), span) };
        let trace = TraceId::from(job);
        match (fields.epoch, root(job, fields.epoch)) {
            (0, _) => alone(trace, span),
            (_, root) if name == ROOT => alone(trace, root),
            (_, parent) => Place { trace, span, parent, is_parent_remote: true },
        }
    }
}

/// The root of a job's placement, the same on every node.
fn root(job: u128, epoch: u64) -> SpanId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"filmloom span of a placement").update(&job.to_be_bytes());
    let hash = hasher.update(&epoch.to_be_bytes()).finalize();
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    SpanId::from_bytes([a, b, c, d, e, f, g, h])
}

impl<S, P> Layer<S> for Spans<P>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    P: SpanProcessor + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = span.parent();
        let parent = parent.and_then(|parent| Some(parent.extensions().get::<Open>()?.place));
        let place = self.place(span.name(), parent, &fields);
        let (begun, attributes) = (SystemTime::now(), fields.attributes);
        span.extensions_mut().insert(Open { place, begun, attributes });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            open.attributes.append(&mut fields.attributes);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let Open { place: Place { trace, span: id, parent, is_parent_remote }, .. } = open;
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, id, flags, false, state),
            parent_span_id: parent,
            parent_span_is_remote: is_parent_remote,
            span_kind: SpanKind::Internal,
            name: span.name().into(),
            start_time: open.begun,
            // A clock that was set back meanwhile makes no span of negative length.
            end_time: SystemTime::now().max(open.begun),
            attributes: open.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "epoch" {
            self.epoch = value;
        }
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "job" {
            self.job = u128::from_str_radix(&text, 16).ok();
        }
        self.add(field, text);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, MutexGuard},
        time::Duration,
    };

    use opentelemetry_sdk::error::OTelSdkResult;
    use tracing::{Span, debug_span, field::Empty};
    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::*;

    #[test]
    fn spans_of_a_placement_fall_in_one_trace_below_one_root_whoever_makes_them() {
        let coordinator = Kept::of(|| drop(placed(7, 2)));
        let worker = Kept::of(|| {
            let stage = debug_span!(parent: None, "stage", job = %shown(7), epoch = 2_u64);
            drop(debug_span!(parent: &stage, "run", job = %shown(7), epoch = 2_u64));
        });

        let [job] = &coordinator.spans()[..] else { panic!("{coordinator:?}") };
        let workers = worker.spans();
        let [run, stage] = &workers[..] else { panic!("{worker:?}") };
        assert_eq!(job.span_context.trace_id(), TraceId::from(7));
        assert_eq!(job.parent_span_id, SpanId::INVALID);
        for span in [run, stage] {
            assert_eq!(span.span_context.trace_id(), TraceId::from(7));
        }
        assert_eq!(stage.parent_span_id, job.span_context.span_id());
        assert_eq!(run.parent_span_id, stage.span_context.span_id());
        assert!(stage.parent_span_is_remote && !run.parent_span_is_remote);
        assert!(stage.start_time <= run.start_time && run.end_time <= stage.end_time);
    }

    #[test]
    fn every_placement_of_a_job_has_a_root_of_its_own() {
        let kept = Kept::of(|| {
            for (job, epoch) in [(7, 1), (7, 2), (8, 1)] {
                drop(placed(job, epoch));
            }
            drop(debug_span!(parent: None, "decode", job = %shown(9), epoch = 0_u64));
        });

        let spans = kept.spans();
        let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id()).collect();
        ids.sort_unstable_by_key(|id| id.to_bytes());
        ids.dedup();
        assert_eq!(ids.len(), 4);
        assert_eq!(spans[3].parent_span_id, SpanId::INVALID, "nobody placed it");
        assert_eq!(spans[3].span_context.trace_id(), TraceId::from(9));
    }

    #[test]
    fn fields_are_attributes_whenever_they_become_known() {
        let kept = Kept::of(|| {
            let span = debug_span!(
                parent: None, "run",
                job = %shown(7), epoch = 1_u64, kind = "commit", layers = ?(0..4), seconds = Empty,
            );
            span.record("seconds", 1.5);
        });

        let want = [
            KeyValue::new("job", shown(7)),
            KeyValue::new("epoch", 1),
            KeyValue::new("kind", "commit"),
            KeyValue::new("layers", "0..4"),
            KeyValue::new("seconds", 1.5),
        ];
        assert_eq!(kept.spans()[0].attributes, want);
    }

    fn placed(job: u128, epoch: u64) -> Span {
        debug_span!(parent: None, "job", job = %shown(job), epoch)
    }

    fn shown(job: u128) -> String {
        format!("{job:032x}")
    }

    /// Keeps what it is given.
    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<SpanData>>);

    impl Kept {
        /// The spans that are made.
        fn of(make: impl FnOnce()) -> Arc<Self> {
            let kept = Arc::new(Self::default());
            let subscriber = Registry::default().with(Spans::new(Arc::clone(&kept)));
            tracing::subscriber::with_default(subscriber, make);
            kept
        }

        fn spans(&self) -> MutexGuard<'_, Vec<SpanData>> {
            self.0.lock().unwrap()
        }
    }

    impl SpanProcessor for Kept {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

        fn on_end(&self, span: SpanData) {
            self.spans().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }
}
