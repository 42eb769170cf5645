//! What the server says of itself: models, the pool, health, metrics, its routes.

use axum::{
    Json,
    extract::{Path, State},
    http::{
        Method, StatusCode, Uri,
        header::{CONTENT_TYPE, HeaderName},
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fields::repeated,
    refusal::{Problem, Refusal},
    routes::App,
    service::{Cluster, Model},
};

/// The description of all routes, for programs.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// A model as it stands on the wire.
#[derive(Debug, Serialize)]
pub(crate) struct ShownModel {
    object: &'static str,
    #[serde(flatten)]
    model: Model,
}

impl ShownModel {
    pub(crate) fn new(model: Model) -> Self {
        Self { object: "model", model }
    }
}

pub(crate) async fn models(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let models = app.service.models().await?;
    let data: Vec<ShownModel> = models.into_iter().map(ShownModel::new).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

pub(crate) async fn model(
    State(app): State<App>,
    path: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<ShownModel>, Problem> {
    let id = path.map_or_else(|_| "?".to_owned(), |Path(id)| id);
    let mut models = app.service.models().await?.into_iter();
    let model = models.find(|model| model.id == id).ok_or_else(|| Refusal::NoSuchModel {
        message: format!("there is no model {}; /v1/models lists those there are", repeated(&id)),
    })?;
    Ok(Json(ShownModel::new(model)))
}

pub(crate) async fn cluster(State(app): State<App>) -> Result<Json<Cluster>, Problem> {
    Ok(Json(app.service.cluster().await?))
}

pub(crate) async fn health() -> &'static str {
    "ok\n"
}

pub(crate) async fn readiness(State(app): State<App>) -> Result<&'static str, Problem> {
    let ready = app.service.readiness().await;
    ready.map_err(|message| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message))?;
    Ok("ready\n")
}

pub(crate) async fn metrics(State(app): State<App>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.service.metrics().await)
}

pub(crate) async fn openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

pub(crate) async fn no_such_route(uri: Uri) -> Problem {
    let path = repeated(uri.path());
    let message = format!("there is nothing at {path}; /openapi.json lists what there is");
    Problem::new(StatusCode::NOT_FOUND, "not_found", message)
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let path = repeated(uri.path());
    let message = format!("{method} is not possible at {path}; the Allow header says what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        event::{Happening, PlannedStage},
        fields::NAMES,
        plan::{Plan, PlanHop, PlanLeftOut, PlanNode, PlanPace, PlanWorker},
        service::{Link, Worker},
        video::{ScheduledPrompt, Size, StageTiming, Status, Video, VideoError, VideoId},
        videos::Shown,
    };

    #[test]
    fn schemas_have_the_fields_of_what_is_sent() {
        let timing = timing();
        let prompt = ScheduledPrompt { at_seconds: 1.0, prompt: text() };
        let link =
            Link { from: text(), to: text(), bytes_per_second: 1.0, round_trip_seconds: 1.0 };
        for (name, sent) in [
            ("Video", json!(Shown::new(video()))),
            ("VideoError", json!(error())),
            ("StageTiming", json!(timing)),
            ("PlannedStage", json!(planned_stage())),
            ("ScheduledPrompt", json!(prompt)),
            ("Model", json!(ShownModel::new(model()))),
            ("Cluster", json!(Cluster::default())),
            ("Worker", json!(Worker::default())),
            ("Link", json!(link)),
            ("Plan", json!(plan())),
            ("PlanWorker", json!(PlanWorker::default())),
            ("PlanHop", json!(PlanHop::default())),
            ("PlanLeftOut", json!(PlanLeftOut::default())),
            ("PlanNode", json!(PlanNode::default())),
            ("PlanPace", json!(PlanPace::default())),
        ] {
            let schema = schema(name);
            assert_eq!(keys(&schema["properties"]), keys(&sent), "{name}");
            let required: BTreeSet<String> =
                serde_json::from_value(schema["required"].clone()).unwrap();
            assert!(required.is_subset(&keys(&sent)), "{name}");
        }
    }

    #[test]
    fn schemas_of_a_request_have_its_fields() {
        let names: BTreeSet<String> = NAMES.map(str::to_owned).into();
        assert_eq!(keys(&schema("NewVideo")["properties"]), names);
        assert_eq!(keys(&schema("NewVideoForm")["properties"]), names);
    }

    #[test]
    fn every_event_has_a_schema_with_its_name_and_fields() {
        let stage_timings = vec![timing()];
        let stages = vec![planned_stage()];
        let events = [
            Happening::Queued { position: 0, estimated_start_at: None },
            Happening::Planned { epoch: 1, stages, chunk_seconds: 1.0, bottleneck: text() },
            Happening::Started,
            Happening::ChunkCommitted {
                chunk: 0,
                chunks: 1,
                pictures: 9,
                seconds: 1.0,
                stage_timings,
            },
            Happening::Done { pictures: 9 },
            Happening::Failed { error: error() },
            Happening::Cancelled,
        ];
        let schemas = schema("VideoEvent")["oneOf"].clone();
        assert_eq!(schemas.as_array().unwrap().len(), events.len());
        for (event, schema) in events.iter().zip(schemas.as_array().unwrap()) {
            let mut sent = keys(&json!(event));
            assert_eq!(json!(event)["type"], event.name());
            assert_eq!(schema["properties"]["type"]["const"], event.name());
            sent.extend(["object".to_owned(), "video_id".to_owned()]);
            assert_eq!(keys(&schema["properties"]), sent, "{}", event.name());
        }
    }

    #[test]
    fn references_of_the_document_lead_somewhere() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let references = OPENAPI.split("\"$ref\": \"#").skip(1);
        let references: Vec<&str> = references.filter_map(|rest| rest.split('"').next()).collect();
        assert!(!references.is_empty());
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    fn schema(name: &str) -> Value {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        document["components"]["schemas"][name].clone()
    }

    fn keys(object: &Value) -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    }

    fn text() -> String {
        "text".to_owned()
    }

    fn error() -> VideoError {
        VideoError { code: text(), message: text() }
    }

    fn planned_stage() -> PlannedStage {
        PlannedStage { stage: text(), worker: text() }
    }

    fn timing() -> StageTiming {
        StageTiming {
            stage: text(),
            worker: text(),
            compute_seconds: 1.0,
            transfer_seconds: 1.0,
            wait_seconds: 1.0,
            sent_bytes: 1,
            received_bytes: 1,
        }
    }

    fn plan() -> Plan {
        let size = Size { width: 832, height: 480 };
        Plan {
            model: text(),
            size,
            measured_size: size,
            fps: 16,
            seconds: 60.0,
            pictures: 960,
            chunks: 81,
            jobs: 1,
            jobs_at_once: 1,
            jobs_max: 4,
            stands: true,
            workers: Vec::new(),
            hops: Vec::new(),
            left_out: Vec::new(),
            chunk_seconds: 1.0,
            seconds_per_chunk: 1.0,
            pictures_per_second: 12.0,
            first_chunk_seconds: 2.0,
            video_seconds: 82.0,
            videos_seconds: 82.0,
            bottleneck: text(),
            verdict: text(),
            use_one_node: true,
            one_node: None,
            gain: None,
            measured: None,
        }
    }

    fn model() -> Model {
        let size = Size { width: 832, height: 480 };
        Model { id: text(), created: 1, owned_by: text(), size, fps: 16 }
    }

    fn video() -> Video {
        Video {
            id: VideoId(1),
            model: text(),
            prompt: text(),
            status: Status::Queued,
            progress: 0,
            created_at: 1,
            started_at: None,
            completed_at: None,
            expires_at: None,
            size: Size { width: 832, height: 480 },
            seconds: 60.0,
            seed: 1,
            fps: 16,
            error: None,
            queue_position: None,
            estimated_start_at: None,
            estimated_completion_at: None,
            pictures: 0,
            stage_timings: Vec::new(),
        }
    }
}
