//! JSON bodies: bounded in size and time, of the right type, and with nothing in them that nobody reads.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use http::header;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use super::error::{ApiError, Code, Problem, Result};

/// Largest body in bytes: room for the largest settings, and for a secret that is too long to be told so.
pub const MAX_BODY: usize = 256 * 1024;
/// For the whole body to arrive (threats.md T03).
const DEADLINE: Duration = Duration::from_secs(10);

/// A body of JSON that is a `T`. Types are to deny unknown fields, so that a misspelt one is told and not ignored.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|value| value.split(';').next()).map(str::trim).unwrap_or_default();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Code::UnsupportedMediaType.into());
        }
        let body = read(request).await?;
        parse(&body).map(Self)
    }
}

async fn read(request: Request) -> Result<Bytes> {
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY) {
        return Err(Code::PayloadTooLarge.into());
    }
    let read = timeout(DEADLINE, Limited::new(request.into_body(), MAX_BODY).collect()).await;
    let body = read.map_err(|_| Code::RequestTimeout)?;
    // Too long without saying so; or the sender is gone, who reads no answer.
    Ok(body.map_err(|_| Code::PayloadTooLarge)?.to_bytes())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json);
    let value = parsed.map_err(|error| {
        let path = error.path().to_string();
        match error.inner().classify() {
            // The text of such an error names types and what was expected, and quotes what was sent: nobody else reads it.
            Category::Data => invalid(path, &error.into_inner()),
            Category::Io | Category::Syntax | Category::Eof => Code::InvalidJson.into(),
        }
    })?;
    json.end().map_err(|_| Code::InvalidJson)?;
    Ok(value)
}

fn invalid(path: String, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    // Without ` at line 1 column 2`, which says nothing where the path is known.
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let field = if path == "." { String::new() } else { path };
    ApiError::invalid(vec![Problem { field, message: message.to_owned() }])
}

#[cfg(test)]
mod tests {
    use axum::body::Body as HttpBody;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "it is only parsed")]
        names: Vec<String>,
    }

    async fn code(kind: &str, body: impl Into<HttpBody>) -> Option<Code> {
        let request = Request::builder().header("content-type", kind).body(body.into()).unwrap();
        Body::<Sample>::from_request(request, &()).await.err().map(|error| error.code())
    }

    #[tokio::test]
    async fn a_body_is_json_of_its_type() {
        let json = "application/json";
        assert_eq!(code(json, r#"{"names":["a"]}"#).await, None);
        assert_eq!(code("Application/JSON; charset=utf-8", r#"{"names":[]}"#).await, None);
        assert_eq!(code("text/plain", r#"{"names":[]}"#).await, Some(Code::UnsupportedMediaType));
        for bad in
            ["", "{", r#"{"names":[]} x"#, "[", "\u{0}", r#"{"names":["\ud800"]}"#, r#"{"names":[]} {}"#]
        {
            assert_eq!(code(json, bad).await, Some(Code::InvalidJson), "{bad}");
        }
        for bad in [
            "{}",
            "[]",
            "1",
            "null",
            r#"{"names":1}"#,
            r#"{"names":[],"id":1}"#,
            r#"{"names":[],"names":[]}"#,
        ] {
            assert_eq!(code(json, bad).await, Some(Code::ValidationFailed), "{bad}");
        }
        assert_eq!(code(json, vec![b' '; MAX_BODY + 1]).await, Some(Code::PayloadTooLarge));
    }
}
