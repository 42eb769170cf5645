//! The body of a request for a video, read within its limits.
//!
//! A JSON object, or a form as browsers and SDKs send it. The router bounds the
//! whole body; here a form's parts are refused by name before they are read, and
//! a JSON object is taken apart without making a tree of it, so a hostile body
//! costs its own size and little more.

use std::fmt;

use axum::{
    body::Bytes,
    extract::{FromRequest, Multipart, Request, multipart::MultipartError},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    fields::{Fields, Given, cut, repeated},
    refusal::{Problem, Refusal, invalid},
    unsupported,
    video::NewVideo,
};

/// Largest body of any request. Chosen: the longest prompts fit 30 times.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most fields of an object. Chosen: more than there are names.
const FIELDS_MAX: usize = 64;

/// Reads what is asked for.
pub(crate) async fn read(request: Request) -> Result<NewVideo, Problem> {
    match media_type(request.headers()).as_deref() {
        Some("application/json") => {
            let body = Bytes::from_request(request, &()).await;
            let body = body.map_err(|error| unreadable(error.status(), &error.body_text()))?;
            Ok(from_json(&body)?)
        }
        Some("multipart/form-data") => {
            let form = Multipart::from_request(request, &()).await;
            let form = form.map_err(|error| unreadable(error.status(), &error.body_text()))?;
            from_form(form).await
        }
        other => {
            let found = other.map_or("missing".to_owned(), repeated);
            let message = format!(
                "the content type is {found}; send application/json or multipart/form-data"
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(Problem::new(status, "unsupported_media_type", message))
        }
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("?");
    let media_type = text.split(';').next().unwrap_or_default();
    Some(media_type.trim().to_ascii_lowercase())
}

fn from_json(body: &[u8]) -> Result<NewVideo, Refusal> {
    let Object(pairs) = serde_json::from_slice(body).map_err(|error| Refusal::InvalidRequest {
        param: None,
        message: format!("the body is not a JSON object of fields: {}", cut(&error.to_string())),
    })?;
    let mut fields = Fields::default();
    for (name, value) in pairs {
        let is_null = value.get() == "null";
        if is_null && unsupported::is_foreign(&name) {
            continue;
        }
        let name = fields.admit(&name)?;
        if !is_null {
            fields.insert(name, Given::Json(value));
        }
    }
    fields.resolve()
}

async fn from_form(mut form: Multipart) -> Result<NewVideo, Problem> {
    let unreadable = |error: MultipartError| unreadable(error.status(), &error.body_text());
    let mut fields = Fields::default();
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        let name = fields.admit(part.name().unwrap_or_default())?;
        let bytes = part.bytes().await.map_err(unreadable)?;
        let text = String::from_utf8(bytes.into());
        let text = text.map_err(|_| invalid(name, format!("`{name}` is not UTF-8; send it so")))?;
        fields.insert(name, Given::Text(text));
    }
    Ok(fields.resolve()?)
}

fn unreadable(status: StatusCode, reason: &str) -> Problem {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is too large; send at most {BODY_BYTES_MAX} bytes");
        return Refusal::TooLarge { message }.into();
    }
    let reason = cut(reason);
    let message = format!("the body cannot be read ({reason}); send it whole and well-formed");
    Refusal::InvalidRequest { param: None, message }.into()
}

/// Names and values of a JSON object, the values as they were written.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object such as {\"prompt\": \"a red ball\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            if pairs.len() == FIELDS_MAX {
                let problem = format_args!("more than {FIELDS_MAX} fields; give those you need");
                return Err(A::Error::custom(problem));
            }
            pairs.push(pair);
        }
        Ok(Object(pairs))
    }
}
