//! Spans of a video over two workers, as a collector sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::pool::Pool;

/// Denoise runs of the embedded model's first chunk, which is guided, and of a later one.
const DENOISE_RUNS: [usize; 2] = [2 * 10, 4];

#[test]
fn spans_of_all_processes_are_one_trace_with_every_run_once() {
    let collector = Collector::start();
    let url = ["--otlp", &collector.url];
    let mut pool = Pool::start(&url);
    pool.add_worker(&[&["--layers", "0..4"], &url[..]].concat());
    pool.add_worker(&[&["--layers", "4..8"], &url[..]].concat());
    pool.wait_ready(2);

    let id = pool.create("a large red ball bounces over green hills", 5, 1.0);
    pool.wait_completed(&id);
    let trace = id.strip_prefix("video_").unwrap().to_owned();
    let job = pool.wait("the job's span has come", || {
        collector.of_job(&trace).into_iter().find(|span| span.name == "job")
    });
    // What they still have goes out with them.
    for worker in &mut pool.workers {
        worker.terminate();
        assert!(worker.0.wait().unwrap().success());
    }
    pool.stop_coordinator();

    let spans = collector.of_job(&trace);
    check_tree(&spans, &job, &trace);
    let chunks = number(&job, "chunks");
    assert!(2 <= chunks, "{job:?}");
    for layers in ["0..4", "4..8"] {
        check_stage(&spans, layers, chunks);
    }
    let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((count("job"), count("stage"), count("text")), (1, 2, 1));
    let chunks = usize::try_from(chunks).unwrap();
    let parts = ["chunk", "decode", "encode"].map(count);
    assert_eq!((parts, count("stage_chunk")), ([chunks; 3], 2 * chunks));
    for chunk in spans.iter().filter(|span| span.name == "chunk") {
        assert!(0 < number(chunk, "committed_bytes"), "{chunk:?}");
    }
}

/// Every span is in the job's trace, below a span that came too, and within the job's
/// time.
fn check_tree(spans: &[Span], job: &Span, trace: &str) {
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    for span in spans {
        assert_eq!(hex(&span.trace_id), trace);
        let is_within = job.start_time_unix_nano <= span.start_time_unix_nano
            && span.end_time_unix_nano <= job.end_time_unix_nano;
        assert!(is_within, "{span:?} is not within {job:?}");
        let is_root = span.parent_span_id.is_empty();
        assert_eq!(is_root, span.name == "job", "{span:?}");
        assert!(is_root || ids.contains(&span.parent_span_id), "{span:?} is below nothing");
    }
}

/// Every run of the video was on this stage once. The commit run of its last chunk may
/// not have been: nothing needs it, so the job may be closed before.
fn check_stage(spans: &[Span], layers: &str, chunks: i64) {
    let runs = spans.iter().filter(|span| span.name == "run" && text(span, "layers") == layers);
    let (mut seen, mut denoised, mut committed) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for run in runs {
        let (compute, wait) = (seconds(run, "compute_seconds"), seconds(run, "wait_seconds"));
        assert!(0.0 < compute && 0.0 <= wait, "{run:?}");
        let chunk = number(run, "chunk");
        let is_new = seen.insert((chunk, number(run, "pass"), text(run, "branch")));
        assert!(is_new, "{run:?} came twice");
        match &*text(run, "kind") {
            "denoise" => *denoised.entry(chunk).or_default() += 1,
            "commit" => committed.push(chunk),
            other => panic!("{other}"),
        }
    }
    let want = (0..chunks).map(|chunk| (chunk, DENOISE_RUNS[usize::from(0 < chunk)]));
    assert_eq!(denoised, want.collect(), "layers {layers}");
    committed.sort_unstable();
    committed.retain(|&chunk| chunk < chunks - 1);
    assert!(committed.into_iter().eq(0..chunks - 1), "layers {layers}");
}

/// Takes spans until it is dropped.
struct Collector {
    url: String,
    taken: Taken,
    _runtime: Runtime,
}

#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Span>>>);

impl Collector {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Taken::default();
        let service = TraceServiceServer::new(taken.clone());
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { url, taken, _runtime: runtime }
    }

    /// The spans that carry a job's id, wherever they are.
    fn of_job(&self, job: &str) -> Vec<Span> {
        let spans = self.taken.0.lock().unwrap();
        spans.iter().filter(|span| text(span, "job") == job).cloned().collect()
    }
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(span: &Span, name: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

fn text(span: &Span, name: &str) -> String {
    match attribute(span, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

fn number(span: &Span, name: &str) -> i64 {
    match attribute(span, name) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

fn seconds(span: &Span, name: &str) -> f64 {
    match attribute(span, name) {
        Some(Value::DoubleValue(seconds)) => seconds,
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
