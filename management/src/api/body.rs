//! JSON bodies: bounded in size and time, of the right type, and with nothing in them that nobody reads.

use std::time::Duration;

use axum::{
    body::Body as HttpBody,
    extract::{FromRequest, Request},
};
use http::header;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serve::discard;
use tokio::time::timeout;

use super::error::{ApiError, Code, Result};

/// Largest body in bytes: room for the largest settings, and for a secret that is too long to be told so.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// Time for the whole body to arrive: a sender of a byte a second is let go, with 408.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A body of JSON that is a `T`. Types are to deny unknown fields, so that a misspelt one is told and not
/// ignored.
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
        // It is there, within its bounds: see [`buffered`].
        let body = request.into_body().collect().await.map_err(|_| Code::Internal)?.to_bytes();
        parse(&body).map(Self)
    }
}

/// Takes a body in before it is asked for, so that how slowly it comes is not the time of whoever reads it.
pub async fn buffered(request: Request) -> Result<Request> {
    let (parts, mut body) = request.into_parts();
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        discard(&parts.headers, body).await;
        return Err(Code::PayloadTooLarge.into());
    }
    let read = timeout(BODY_DEADLINE, Limited::new(&mut body, MAX_BODY_BYTES).collect()).await;
    let Ok(read) = read.map_err(|_| Code::RequestTimeout)? else {
        // Too long without saying so; or the sender is gone, who reads no answer.
        discard(&parts.headers, body).await;
        return Err(Code::PayloadTooLarge.into());
    };
    Ok(Request::from_parts(parts, HttpBody::from(read.to_bytes())))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json);
    let value = parsed.map_err(|error| {
        let path = error.path().to_string();
        match error.inner().classify() {
            Category::Data => invalid(&path, &error.into_inner()),
            Category::Io | Category::Syntax | Category::Eof => Code::InvalidJson.into(),
        }
    })?;
    json.end().map_err(|_| Code::InvalidJson)?;
    // serde takes a list for a struct as well, its fields in our order, which is nobody's contract.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::field("", "must be an object"));
    }
    Ok(value)
}

/// Longest path of a field that is told, in characters: the names in it may be the sender's.
const MAX_PATH_CHARS: usize = 200;

fn invalid(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    // Without ` at line 1 column 2`, which says nothing where the path is known.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let path = if path == "." { "" } else { path };
    // Both name a field of ours, below the path.
    let named = |start| text.strip_prefix(start).and_then(|rest| rest.strip_suffix('`'));
    let (name, message) = match (named("missing field `"), named("duplicate field `")) {
        (Some(name), _) => (name, "is required".to_owned()),
        (_, Some(name)) => (name, "is there twice".to_owned()),
        _ => ("", expected(text)),
    };
    let dot = if path.is_empty() || name.is_empty() { "" } else { "." };
    ApiError::field(format!("{path}{dot}{name}").chars().take(MAX_PATH_CHARS).collect::<String>(), message)
}

/// Words of serde's text that name our own types. The rest of it quotes what was sent, which may be a secret.
fn expected(text: &str) -> String {
    let quotes =
        ["invalid type: ", "invalid value: ", "invalid length ", "unknown field `", "unknown variant `"];
    let quotes = quotes.iter().any(|start| text.starts_with(start)) && !text.contains("`, there are no ");
    // What was sent may hold the same words, but comes before.
    match text.rsplit_once(", expected ").filter(|_| quotes) {
        Some((quoted, expected)) if quoted.starts_with("unknown ") => {
            format!("is not known: expected {expected}")
        }
        Some((_, expected)) => format!("must be {}", in_json(expected)),
        None => "is not valid".to_owned(),
    }
}

/// Name that JSON has for what Rust calls `expected`.
fn in_json(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        "i32" | "i64" => "a whole number",
        name if name.starts_with("struct ") => "an object",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "it is only parsed")]
        names: Vec<String>,
    }

    /// Fields of all kinds that serde has something to say about.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only parsed")]
    struct Picky {
        text: Option<String>,
        number: Option<u8>,
        id: Option<uuid::Uuid>,
        role: Option<crate::api::permission::Role>,
        both: Option<(u8, u8)>,
        either: Option<Either>,
        limit: Option<crate::api::page::Limit>,
        none: Option<Empty>,
        secret: Option<secrecy::SecretString>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "it is only parsed")]
    enum Either {
        One(u8),
        Many(Vec<u8>),
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[test]
    fn nothing_that_was_sent_is_told() {
        let said = |body: &serde_json::Value| {
            let error = parse::<Picky>(body.to_string().as_bytes()).unwrap_err();
            // serde_json takes a list in place of a word for bad JSON.
            assert!(matches!(error.code(), Code::ValidationFailed | Code::InvalidJson), "{body}");
            format!("{error:?}")
        };
        for secret in [
            "hunter2",
            "a, expected hunter2",
            "`, expected hunter2",
            "x at line hunter2",
            "missing field `hunter2`",
        ] {
            for field in ["number", "id", "role", "both", "either", "limit", "none"] {
                for value in [
                    serde_json::json!(secret),
                    serde_json::json!({secret: secret}),
                    serde_json::json!([secret]),
                ] {
                    let said = said(&serde_json::json!({field: value}));
                    // A name is part of the path, which the sender needs.
                    let told = if value.is_object() {
                        said.matches("hunter2").count() > 1
                    } else {
                        said.contains("hunter2")
                    };
                    assert!(!told, "{said}");
                }
            }
            let said = said(&serde_json::json!({"text": [secret], "secret": 1}));
            assert!(!said.contains("hunter2"), "{said}");
        }
        for body in [
            serde_json::json!({"secret": 271_828}),
            serde_json::json!({"text": 271_828}),
            serde_json::json!([271_828]),
        ] {
            assert!(!said(&body).contains("271828"), "{body}");
        }
        let said = said(&serde_json::json!({"role": "root"}));
        assert!(said.contains("expected one of `owner`, `admin`"), "{said}");
    }

    #[test]
    fn what_is_wrong_is_told_in_words_of_json_and_by_its_field() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "it is only parsed")]
        struct Outer {
            list: Vec<Sample>,
            #[serde(default)]
            number: i32,
        }
        for (body, field, message) in [
            ("[]", "", "must be an object"),
            ("[[], 1]", "", "must be an object"),
            ("null", "", "must be an object"),
            ("{}", "list", "is required"),
            (r#"{"list":[],"list":[]}"#, "list", "is there twice"),
            (r#"{"list":[{"names":[]},{}]}"#, "list[1].names", "is required"),
            (r#"{"list":[1]}"#, "list[0]", "must be an object"),
            (r#"{"list":{}}"#, "list", "must be a list"),
            (r#"{"list":[],"number":1.0}"#, "number", "must be a whole number"),
            (r#"{"list":[],"number":99999999999999999999}"#, "number", "must be a whole number"),
            (r#"{"list":[],"other":1}"#, "other", "is not known: expected `list` or `number`"),
        ] {
            let error = parse::<Outer>(body.as_bytes()).unwrap_err();
            let [problem] = error.fields() else { panic!("{body}: {error:?}") };
            assert_eq!((problem.field.as_str(), problem.message.as_str()), (field, message), "{body}");
        }
    }

    async fn code(kind: &str, body: impl Into<HttpBody>) -> Option<Code> {
        let request = Request::builder().header("content-type", kind).body(body.into()).unwrap();
        let read = async { Body::<Sample>::from_request(buffered(request).await?, &()).await };
        read.await.err().map(|error| error.code())
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
        // A list is no object, though its items would fit the fields.
        assert_eq!(code(json, r#" [["a"]]"#).await, Some(Code::ValidationFailed));
        assert_eq!(code(json, vec![b' '; MAX_BODY_BYTES + 1]).await, Some(Code::PayloadTooLarge));
    }
}
