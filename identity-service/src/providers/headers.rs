//! Names and values that go into requests: which are ours to set, and which carry credentials.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::template;
use super::validation::{Fields, Problems};

/// Most headers in a vendor's settings.
const MAX_HEADERS: usize = 20;
/// Longest value of a header, in bytes.
const MAX_VALUE: usize = 1024;

/// Headers that we set, or that are the connection's.
const OURS: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Parts of names that tell a credential. The name of a header or parameter is compared in small letters and
/// digits alone; one that ends in `key`, or is one of the short ones, tells a credential too.
const CREDENTIALS: [&str; 13] = [
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "jwt",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
];
const SHORT: [&str; 4] = ["auth", "pass", "sig", "sign"];

/// True where the name looks like a credential's.
pub fn is_credential(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    CREDENTIALS.iter().any(|part| name.contains(part)) || name.ends_with("key") || SHORT.contains(&&*name)
}

/// A header that settings may name.
pub fn name(text: &str) -> Result<(), &'static str> {
    match HeaderName::try_from(text) {
        Ok(name) if OURS.contains(&name.as_str()) => Err("must not be a header that is set already"),
        Ok(name) if name.as_str().len() <= 64 => Ok(()),
        _ => Err("must be the name of a header"),
    }
}

/// `headers` of a vendor's settings: name to text, in which visitors' variables and the vendor's
/// `credentials` may stand. A header that carries a credential names it, so that none is stored in clear.
pub fn check(fields: &mut Fields<'_>, credentials: &[&str], problems: &mut Problems) {
    let path = fields.path("headers");
    let Some(value) = fields.value("headers") else { return };
    let Some(headers) = value.as_object() else { return problems.add(path, "must be an object") };
    if headers.len() > MAX_HEADERS {
        return problems.add(path, format!("must have at most {MAX_HEADERS} entries"));
    }
    for (header, value) in headers {
        let path = format!("{path}.{}", header.chars().take(64).collect::<String>());
        if let Err(why) = name(header) {
            problems.add(path, why);
            continue;
        }
        problems.take(path, one(header, value, credentials));
    }
}

fn one(header: &str, value: &Value, credentials: &[&str]) -> Result<(), String> {
    let text = value.as_str().ok_or("must be a text")?;
    let printable = HeaderValue::try_from(text).is_ok() && text.is_ascii() && !text.contains('\t');
    if text.len() > MAX_VALUE || !printable {
        return Err(format!("must be at most {MAX_VALUE} printable ASCII characters"));
    }
    template::check(text, credentials)?;
    if is_credential(header) && template::check(text, &[]).is_ok() {
        let names: Vec<String> = credentials.iter().map(|name| format!("{{{{{name}}}}}")).collect();
        return Err(format!("must take what is secret from the credentials: {}", names.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_look_like_credentials() {
        for text in [
            "Authorization",
            "x-api-key",
            "apiKey",
            "api_key",
            "key",
            "token",
            "access_token",
            "X-Amz-Signature",
            "sig",
            "client_secret",
            "pwd",
            "Cookie",
            "Ocp-Apim-Subscription-Key",
            "auth",
            "X-Auth-Token",
            "session_id",
        ] {
            assert!(is_credential(text), "{text}");
        }
        for text in
            ["ttd_pid", "pid", "it", "iv", "fmt", "author", "keyword", "accept", "x-forwarded-for", "origin"]
        {
            assert!(!is_credential(text), "{text}");
        }
    }

    fn problems(headers: &Value) -> Vec<String> {
        let settings = json!({ "headers": headers });
        let mut problems = Problems::default();
        let mut fields = Fields::of("", &settings, &mut problems).unwrap();
        check(&mut fields, &["api_key"], &mut problems);
        problems.into_list().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn headers_are_text_and_hold_no_secret() {
        let good = json!({
            "Accept": "application/json", "Origin": "https://shop.example.com", "x-forwarded-for": "{{client_ip}}",
            "authorization": "Bearer {{api_key}}", "x-empty": "",
        });
        assert_eq!(problems(&good), [""; 0]);
        for (name, value) in [
            ("x-a", json!("a\r\nb: c")),
            ("x-a", json!("a\u{0}")),
            ("x-a", json!("a\tb")),
            ("x-a", json!("ä")),
            ("x-a", json!(1)),
            ("x-a", json!("x".repeat(1025))),
            ("x-a", json!("{{email}}")),
            ("x-a", json!("{{client_secret}}")),
            ("x-api-key", json!("in clear")),
            ("authorization", json!("Bearer in clear {{anonymous_id}}")),
            ("Host", json!("x")),
            ("Content-Length", json!("1")),
            ("transfer-encoding", json!("chunked")),
            ("a b", json!("x")),
            ("a\r\nb", json!("x")),
            ("", json!("x")),
        ] {
            let mut headers = serde_json::Map::new();
            headers.insert(name.to_owned(), value);
            assert_eq!(problems(&Value::Object(headers)), [format!("headers.{name}")]);
        }
        assert_eq!(problems(&json!([])), ["headers"]);
        let many: serde_json::Map<String, Value> = (0..21).map(|n| (format!("x-{n}"), json!("x"))).collect();
        assert_eq!(problems(&Value::Object(many)), ["headers"]);
    }
}
