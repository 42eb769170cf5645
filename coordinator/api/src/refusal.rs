//! Why the service refuses, and how a refusal looks to a client.
//!
//! A [`Refusal`] has one variant for each thing a client can do about it. On the
//! wire it is a status and the error object of the OpenAI interface, which its
//! SDKs turn into typed exceptions:
//!
//! ```text
//! {"error": {"message": .., "type": .., "param": .., "code": ..}}
//! ```
//!
//! What went wrong inside goes to the log, never to a client: the answer's
//! `x-request-id` finds it there.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why the service does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense as it stands. Change it. Status 400.
    #[error("{message}")]
    InvalidRequest {
        /// The field at fault, if there is one.
        param: Option<String>,
        /// What is wrong and what would be right.
        message: String,
    },
    /// There is no such thing. Ask for another. Status 404.
    #[error("{message}")]
    NotFound {
        /// What was looked for.
        message: String,
    },
    /// There is no such model here. Ask for one that there is. Status 404.
    #[error("{message}")]
    NoSuchModel {
        /// What was looked for, and what there is.
        message: String,
    },
    /// The video has no such content, for now or for ever. Status 404, as
    /// clients of such servers expect.
    #[error("{message}")]
    NotReady {
        /// What the video is doing, and what to wait for.
        message: String,
    },
    /// The video is in a state that does not allow it. Status 409.
    #[error("{message}")]
    WrongState {
        /// Which state, and which are right.
        message: String,
    },
    /// The video is of another model than the one that is served. Serve that one.
    /// Status 409.
    #[error("{message}")]
    OtherModel {
        /// Which model it is of, and which is served.
        message: String,
    },
    /// Too much is waiting already. Come back later. Status 429.
    #[error("{message}")]
    TooManyRequests {
        /// How much is waiting and how long that will take.
        message: String,
        /// When to come back.
        retry_after_seconds: u64,
    },
    /// The workers that are here cannot make a video. Add some. Status 503.
    #[error("{message}")]
    TooFewWorkers {
        /// What is missing, and what to do.
        message: String,
    },
    /// Nobody can do it now. Come back later. Status 503.
    #[error("{message}")]
    Unavailable {
        /// What is missing.
        message: String,
    },
    /// The request has too many bytes. Make it smaller. Status 413.
    #[error("{message}")]
    TooLarge {
        /// How many are allowed.
        message: String,
    },
    /// The server has a fault. Look in its log. Status 500.
    #[error("{detail}")]
    Internal {
        /// For the log; a client does not see it.
        detail: String,
    },
}

/// An error as it stands on the wire.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) retry_after_seconds: Option<u64>,
}

/// A field has a wrong value; the message says which would be right.
pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Refusal {
    Refusal::InvalidRequest { param: Some(param.to_owned()), message: message.into() }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after_seconds: None }
    }

    /// A fault of ours: its detail is logged and kept from the client.
    pub(crate) fn internal(detail: &str) -> Self {
        tracing::error!(detail, "a request failed");
        let message = "the server failed; its log says why, under this answer's x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// The error's class, by which SDKs choose an exception.
    fn class(&self) -> &'static str {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidRequest { param, message } => {
                Self { param, ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) }
            }
            Refusal::NotFound { message } => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            Refusal::NoSuchModel { message } => {
                Self::new(StatusCode::NOT_FOUND, "model_not_found", message)
            }
            Refusal::NotReady { message } => Self::new(StatusCode::NOT_FOUND, "not_ready", message),
            Refusal::WrongState { message } => {
                Self::new(StatusCode::CONFLICT, "wrong_state", message)
            }
            Refusal::OtherModel { message } => {
                Self::new(StatusCode::CONFLICT, "other_model", message)
            }
            Refusal::TooManyRequests { message, retry_after_seconds } => Self {
                retry_after_seconds: Some(retry_after_seconds),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
            },
            Refusal::TooFewWorkers { message } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_few_workers", message)
            }
            Refusal::Unavailable { message } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            Refusal::TooLarge { message } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            }
            Refusal::Internal { detail } => Self::internal(&detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let class = self.class();
        let Self { status, code, message, param, retry_after_seconds } = self;
        let error = json!({ "message": message, "type": class, "param": param, "code": code });
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if let Some(seconds) = retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_other_workers_or_another_model_has_a_code_of_its_own() {
        let message = "because".to_owned();
        let [workers, model] =
            [Refusal::TooFewWorkers { message: message.clone() }, Refusal::OtherModel { message }]
                .map(Problem::from);

        assert_eq!((workers.status.as_u16(), workers.code), (503, "too_few_workers"));
        assert_eq!((model.status.as_u16(), model.code), (409, "other_model"));
        assert_eq!((workers.message.as_str(), workers.class()), ("because", "server_error"));
    }
}
