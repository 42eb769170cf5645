//! Who may come in.
//!
//! With keys, every request but `/healthz` carries `Authorization: Bearer KEY`.
//! Keys are kept and compared as BLAKE3 digests, all of them every time, so
//! neither an answer's time nor a dump of memory tells a key.
//!
//! Without keys the danger is a browser: a page from anywhere can make it send
//! requests to the reader's own machine. So a request that names another origin
//! than this server is refused, and on loopback one that calls this server by
//! another name than a loopback one, as a page does that points its own name at
//! 127.0.0.1. Programs such as curl send no origin and see none of this.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use blake3::Hash;

use crate::refusal::Problem;

/// Who may come in.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever reaches a loopback address. The listener must be on one.
    Loopback,
    /// Everyone. The user has asked for that.
    Insecure,
    /// Those who have a key.
    Keys(Keys),
}

/// Keys, one of which a request must carry.
#[derive(Clone)]
pub struct Keys(Arc<[Hash]>);

/// No key, or an empty one, which would let everyone in. Set one of at least one
/// character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is empty, or there is none: set one, or ask for no keys")]
pub struct NoKey;

impl Keys {
    /// Any of these keys opens.
    ///
    /// # Errors
    ///
    /// [`NoKey`] if there is none, or an empty one.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<Self, NoKey> {
        let digest = |key: K| match key.as_ref().trim() {
            "" => Err(NoKey),
            key => Ok(blake3::hash(key.as_bytes())),
        };
        let digests: Arc<[Hash]> = keys.into_iter().map(digest).collect::<Result<_, _>>()?;
        if digests.is_empty() { Err(NoKey) } else { Ok(Self(digests)) }
    }

    /// Compares with every key, each in constant time.
    fn open(&self, key: &str) -> bool {
        let digest = blake3::hash(key.as_bytes());
        self.0.iter().fold(false, |open, known| (*known == digest) | open)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Lets a request in, or not.
pub(crate) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let uri_authority = request.uri().authority().map(Authority::as_str);
    match access.admit(request.headers(), uri_authority) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let is_key = problem.status == StatusCode::UNAUTHORIZED;
            let mut response = problem.into_response();
            if is_key {
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

impl Access {
    /// `uri_authority` is where HTTP/2 names the host.
    fn admit(&self, headers: &HeaderMap, uri_authority: Option<&str>) -> Result<(), Problem> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text(HOST).or(uri_authority);
        let foreign = text(ORIGIN).is_some_and(|origin| !is_same_origin(origin, host));
        match self {
            Self::Keys(keys) => match bearer(headers) {
                None => Err(unauthorized("give the key as `Authorization: Bearer KEY`")),
                Some(key) if keys.open(key) => Ok(()),
                Some(_) => {
                    Err(unauthorized("the key is not one of this server's; ask who runs it"))
                }
            },
            Self::Loopback if host.is_some_and(|host| !is_loopback(host)) => Err(forbidden(
                "this server has no key, so it answers to 127.0.0.1 and localhost only; \
                 start it with a key to use another name",
            )),
            Self::Loopback | Self::Insecure if foreign => Err(forbidden(
                "this server has no key, so pages of other servers may not use it; \
                 start it with a key",
            )),
            Self::Loopback | Self::Insecure => Ok(()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == host
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}

fn forbidden(message: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_key_opens() {
        let access = Access::Keys(Keys::new(["first", "second"]).unwrap());
        let status = |authorization: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = authorization {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            }
            access.admit(&headers, None).map_err(|problem| problem.status.as_u16())
        };

        for right in ["Bearer first", "bearer second", "Bearer  first"] {
            assert_eq!(status(Some(right)), Ok(()), "{right}");
        }
        for wrong in ["Bearer third", "Bearer ", "Bearer", "first", "Basic first", "Bearer firs"] {
            assert_eq!(status(Some(wrong)), Err(401), "{wrong}");
        }
        assert_eq!(status(None), Err(401));
    }

    #[test]
    fn an_empty_key_is_no_key() {
        let error = |keys: &[&str]| Keys::new(keys).err();

        assert_eq!(error(&[]), Some(NoKey));
        assert_eq!(error(&["right", ""]), Some(NoKey));
        assert_eq!(error(&[" "]), Some(NoKey));
    }

    #[test]
    fn keys_do_not_show_in_logs() {
        let access = Access::Keys(Keys::new(["secret"]).unwrap());

        assert_eq!(format!("{access:?}"), "Keys(1 keys)");
    }

    #[test]
    fn foreign_pages_are_kept_out_where_there_is_no_key() {
        let admitted = |access: Access, host: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(HOST, host), (ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            access.admit(&headers, None).is_ok()
        };
        let (loopback, insecure) = (|| Access::Loopback, || Access::Insecure);

        for host in ["127.0.0.1:7842", "localhost:7842", "LocalHost", "[::1]:7842", "127.9.9.9"] {
            assert!(admitted(loopback(), Some(host), None), "{host}");
            assert!(admitted(loopback(), Some(host), Some(&format!("http://{host}"))), "{host}");
            assert!(!admitted(loopback(), Some(host), Some("https://else.where")), "{host}");
            assert!(!admitted(loopback(), Some(host), Some("null")), "{host}");
        }
        for host in ["else.where", "192.168.1.2:7842", "localhost.else.where", "127.0.0.1.else"] {
            assert!(!admitted(loopback(), Some(host), None), "{host}");
            assert!(admitted(insecure(), Some(host), None), "{host}");
            assert!(admitted(insecure(), Some(host), Some(&format!("http://{host}"))), "{host}");
            assert!(!admitted(insecure(), Some(host), Some("http://127.0.0.1")), "{host}");
        }
        assert!(admitted(loopback(), None, None), "a program without a host header");
        // HTTP/2 names the host in the request's target.
        let by_target = |host| Access::Loopback.admit(&HeaderMap::new(), Some(host)).is_ok();
        assert!(by_target("localhost:7842") && !by_target("else.where"));
    }
}
