//! The sender of a request, as the core wants to know it. The core decides what counts; refused here is only
//! what can't be expressed there: a header that must be unique and is not.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use proto::v1::{Caller, CollectCaller, ErrorReason, caller::Kind};
use serve::{Authority, TrustedProxies, proxies::Subscriber};

use crate::{core_client::Trace, error::ApiError};

/// Longest pipeline key in bytes (`CollectCaller.pipeline_key`); a longer one counts as no key.
const MAX_KEY_BYTES: usize = 128;
/// Bytes of User-Agent that are kept (`CollectCaller.user_agent`).
const MAX_USER_AGENT_BYTES: usize = 1024;
/// Bytes of Referer that are kept; only its origin matters.
const MAX_REFERER_BYTES: usize = 4096;

/// Headers by which browsers, of now and of before, say what they load a page for.
const PURPOSE_HEADERS: &[&str] = &["sec-purpose", "purpose", "x-purpose", "x-moz"];
/// Words in them for loads that nobody has asked for.
const SPECULATIVE: &[&str] = &["prefetch", "prerender", "preview"];

static SIGNATURE: HeaderName = HeaderName::from_static("x-datafly-signature");
/// Header of the time at which a call was signed.
pub static TIMESTAMP: HeaderName = HeaderName::from_static("x-datafly-timestamp");

/// Caller of the request with `parts`, sent by `peer`. `query_key` is its `pipeline_key` parameter, which counts where
/// there is no bearer in an Authorization header: that of a site behind a password is the browser's own. Also the subscriber behind it, where one can be told.
pub fn collect(
    parts: &Parts,
    peer: SocketAddr,
    proxies: &TrustedProxies,
    query_key: Option<&str>,
) -> Result<(CollectCaller, Option<Subscriber>), ApiError> {
    let client = proxies.client(peer.ip(), &parts.headers);
    let subscriber = proxies.subscriber(client);
    let headers = &parts.headers;
    let authorization = unique(headers, &header::AUTHORIZATION, ErrorReason::InvalidPipelineKey)?;
    let key = authorization.and_then(bearer).or(query_key).unwrap_or_default();
    let caller = CollectCaller {
        pipeline_key: if key.len() <= MAX_KEY_BYTES { key.to_owned() } else { String::new() },
        origin: unique(headers, &header::ORIGIN, ErrorReason::OriginNotAllowed)?.map(str::to_owned),
        host: host(parts, peer, proxies),
        client_ip: subscriber.map(|_| client.address.to_string()),
        user_agent: user_agent(headers),
        signature: unique(headers, &SIGNATURE, ErrorReason::InvalidSignature)?.map(str::to_owned),
        timestamp: unique(headers, &TIMESTAMP, ErrorReason::InvalidSignature)?.map(str::to_owned),
        signed_body: None,
        events: 1,
    };
    Ok((caller, subscriber))
}

/// `caller` as the message every rpc takes.
pub fn message(caller: CollectCaller) -> Caller {
    Caller { kind: Some(Kind::Collect(caller)) }
}

/// Host the request was sent to, in the one form that hosts are known in; what names none as it is.
pub fn host(parts: &Parts, peer: SocketAddr, proxies: &TrustedProxies) -> String {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let own = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()).or(authority);
    let host = proxies.host(peer.ip(), &parts.headers, own.unwrap_or_default());
    Authority::parse(host).map_or_else(|| host.to_owned(), String::from)
}

/// True where the browser sends `Sec-GPC: 1` (Global Privacy Control).
pub fn sec_gpc(headers: &HeaderMap) -> bool {
    headers.get("sec-gpc").is_some_and(|value| value.as_bytes() == b"1")
}

/// True for a speculative load: the visitor may never see the page, so nothing may happen for it.
pub fn is_speculative(headers: &HeaderMap) -> bool {
    let says = |value: &HeaderValue| {
        let mut words = value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
        words.any(|word| SPECULATIVE.iter().any(|token| word.eq_ignore_ascii_case(token.as_bytes())))
    };
    PURPOSE_HEADERS.iter().any(|name| headers.get_all(*name).iter().any(says))
}

/// User-Agent header of the request, as far as it is kept.
pub fn user_agent(headers: &HeaderMap) -> Option<String> {
    text(headers, &header::USER_AGENT, MAX_USER_AGENT_BYTES)
}

/// Referer header of the request; a proxy that takes it away may leave an empty one, which is none.
pub fn referer(headers: &HeaderMap) -> Option<String> {
    text(headers, &header::REFERER, MAX_REFERER_BYTES).filter(|referer| !referer.is_empty())
}

/// Trace that the request belongs to, handed on as it is; a `traceparent` over 128 bytes is none.
pub fn trace(headers: &HeaderMap) -> Trace {
    let value = headers.get("traceparent").filter(|value| value.len() <= 128)?;
    value.to_str().ok()?.parse().ok()
}

/// Value of the header; the error `reason` where it is repeated or not ASCII.
fn unique<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    reason: ErrorReason,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| reason.into()),
        (Some(_), Some(_)) => Err(reason.into()),
    }
}

/// First `max` bytes of a header, lossily as text.
fn text(headers: &HeaderMap, name: &HeaderName, max: usize) -> Option<String> {
    let mut text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    text.truncate(text.floor_char_boundary(max));
    Some(text)
}

/// The key in an Authorization header; none where that has another scheme.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};

    use super::*;

    fn caller(headers: &[(&str, &str)], query_key: Option<&str>) -> Result<CollectCaller, StatusCode> {
        let mut request = Request::builder().uri("/v1/batch");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let peer = SocketAddr::from(([192, 0, 2, 1], 5));
        let found = collect(&parts, peer, &TrustedProxies::default(), query_key);
        found.map(|(caller, _)| caller).map_err(|error| error.status())
    }

    #[test]
    fn the_key_comes_from_the_header_and_else_from_the_query() {
        let key = |headers: &[(&str, &str)], query| caller(headers, query).unwrap().pipeline_key;
        assert_eq!(key(&[("authorization", "bearer  dk_live_a")], Some("dk_live_q")), "dk_live_a");
        assert_eq!(key(&[], Some("dk_live_q")), "dk_live_q");
        let long = format!("Bearer {}", "a".repeat(4096));
        for header in ["Bearer", "Bearer ", &long] {
            assert_eq!(key(&[("authorization", header)], Some("dk_live_q")), "", "{header}");
        }
        for header in ["Basic eDp5", "Digest username=x", "", "dk_live_a"] {
            assert_eq!(key(&[("authorization", header)], Some("dk_live_q")), "dk_live_q", "{header}");
            assert_eq!(key(&[("authorization", header)], None), "", "{header}");
        }
    }

    #[test]
    fn what_must_be_unique_is_refused_with_its_own_reason() {
        for (name, status) in [
            ("authorization", StatusCode::UNAUTHORIZED),
            ("x-datafly-signature", StatusCode::UNAUTHORIZED),
            ("x-datafly-timestamp", StatusCode::UNAUTHORIZED),
            ("origin", StatusCode::FORBIDDEN),
        ] {
            assert_eq!(caller(&[(name, "a"), (name, "a")], None), Err(status), "{name}");
        }
    }

    #[test]
    fn a_speculative_load_is_known_by_whatever_header_says_so() {
        let is = |name: &str, value: &str| {
            let name: HeaderName = name.parse().unwrap();
            is_speculative(&HeaderMap::from_iter([(name, value.parse().unwrap())]))
        };
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "prefetch;anonymous-client-ip"),
            ("sec-purpose", "prerender"),
            ("purpose", "Prefetch"),
            ("purpose", "preview"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
        ] {
            assert!(is(name, value), "{name}: {value}");
        }
        for (name, value) in [("sec-purpose", ""), ("purpose", "previewed"), ("sec-fetch-dest", "prefetch")] {
            assert!(!is(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn the_sender_is_the_peer_and_texts_are_cut() {
        let agent = "é".repeat(600);
        let found = caller(&[("user-agent", &agent), ("host", "H.:1"), ("x-forwarded-for", "1.1.1.1")], None);
        let found = found.unwrap();
        assert_eq!(found.client_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(found.user_agent.map(|agent| agent.len()), Some(1024));
        assert_eq!(found.host, "h:1");
    }
}
