//! The HTTP of a server, as a client uses it.

use std::{io::Read, time::Duration};

use serde_json::Value;
use ureq::{Agent, Body, RequestBuilder, http::Response};

use crate::failure::Failure;

/// What a server may take to answer; contents may take longer to come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of an answer that is read at once.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    base: String,
    key: Option<String>,
    agent: Agent,
}

/// Why a server did not give what it was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is away, starts, or has too much to do: ask again.
    Passing(Failure),
    /// It knows no such thing.
    Unknown(Failure),
    /// Asking again changes nothing.
    Final(Failure),
}

impl Server {
    /// The server at a URL, or at `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if the text is neither.
    pub(crate) fn new(text: &str, key: Option<&str>) -> Result<Self, Failure> {
        let text = text.trim().trim_end_matches('/');
        let base = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let is_http = base.starts_with("http://") || base.starts_with("https://");
        if !is_http || base.parse::<ureq::http::Uri>().is_err() {
            let advice = "give a URL such as http://box:7842, or HOST:PORT";
            return Err(Failure::Input(format!("--server {text}: {advice}")));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .build();
        let (key, agent) = (key.map(str::to_owned), config.into());
        Ok(Self { base, key, agent })
    }

    /// A JSON answer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the server does not answer, or refuses.
    pub(crate) fn json(&self, path: &str) -> Result<Value, Failure> {
        parse(self.get(path)?)
    }

    /// A JSON answer to a question with parameters, given as they are.
    ///
    /// # Errors
    ///
    /// As [`Server::json`].
    pub(crate) fn json_of(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Value, Failure> {
        let request = self.agent.get(self.url(path));
        let request = request.query_pairs(parameters.iter().map(|(name, value)| (*name, value)));
        parse(self.checked(self.signed(request).call())?)
    }

    /// Asks for something, and gives the answer's content as it comes. Nothing for as
    /// long as `silence` is a failure of the reader.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which says whether to ask again.
    pub(crate) fn stream(
        &self,
        path: &str,
        silence: Duration,
    ) -> Result<impl Read + use<>, Refusal> {
        let request = self.agent.get(self.url(path)).config();
        let request = request.timeout_per_read(Some(silence)).build();
        let answer = self.checked(self.signed(request).call())?;
        Ok(answer.into_body().into_reader())
    }

    /// Sends JSON and gives the JSON answer.
    ///
    /// # Errors
    ///
    /// As [`Server::json`].
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.post(self.url(path));
        let request = self.signed(request);
        parse(self.checked(request.send_json(body))?)
    }

    /// Deletes something.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unknown`] if there is no such thing.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Refusal> {
        let request = self.agent.delete(self.url(path));
        self.checked(self.signed(request).call())?;
        Ok(())
    }

    /// The whole URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn get(&self, path: &str) -> Result<Response<Body>, Refusal> {
        let request = self.agent.get(self.url(path));
        self.checked(self.signed(request).call())
    }

    /// A request with the key, if there is one.
    fn signed<T>(&self, request: RequestBuilder<T>) -> RequestBuilder<T> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn checked(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Refusal> {
        let unreachable = |error: ureq::Error| {
            Refusal::Passing(Failure::Machine(format!(
                "cannot reach {}: {error}; is `filmloom serve` running there?",
                self.base
            )))
        };
        let answer = answer.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = parse(answer).unwrap_or(Value::Null);
        let message = said["error"]["message"].as_str().unwrap_or("no reason was given");
        let message = format!("the server refuses ({}): {message}", status.as_u16());
        let failure = match status.is_client_error() {
            true => Failure::Input(message),
            false => Failure::Machine(message),
        };
        Err(match status.as_u16() {
            404 => Refusal::Unknown(failure),
            408 | 429 | 500.. => Refusal::Passing(failure),
            _ => Refusal::Final(failure),
        })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (Refusal::Passing(failure) | Refusal::Unknown(failure) | Refusal::Final(failure)) =
            refusal;
        failure
    }
}

fn parse(answer: Response<Body>) -> Result<Value, Failure> {
    let mut text = Vec::new();
    let read = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    let strange = |error: &dyn std::error::Error| {
        Failure::Machine(format!("the server's answer cannot be read: {error}"))
    };
    read.map_err(|error| strange(&error))?;
    serde_json::from_slice(&text).map_err(|error| strange(&error))
}
