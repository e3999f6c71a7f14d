//! Bounds on a request's head that hyper does not have, or has only roughly, the same for both protocols.

use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};

use crate::{Authority, error_body};

/// Most header fields of a request.
pub(crate) const MAX_HEADERS: usize = 100;
/// Most bytes of a request's header fields, counted as HTTP/2 does (RFC 9113, 6.5.2): name, value and 32
/// each.
pub(crate) const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Bytes that one HTTP/1 connection buffers: room for the largest head that is answered, and for no more of a
/// body than that (hyper's own 400 KiB would let a thousand uploads hold 400 MB beside the bodies
/// themselves).
pub(crate) const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// Most bytes of a request's target.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Answers 414 or 431 where the head of `request` is over a bound, and 400 where it tells two lengths of its
/// body, or two hosts. `head` holds the bytes that it was read from.
pub(crate) fn refuse<B>(request: &Request<B>, head: &[u8]) -> Option<Response> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers();
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>();
    if target > MAX_TARGET_BYTES {
        Some(error_body(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "The request's target is over 8 KiB."))
    } else if headers.len() > MAX_HEADERS
        || u32::try_from(bytes).is_ok_and(|bytes| bytes > MAX_HEADER_LIST_BYTES)
    {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Some(error_body(
            status,
            "HEADERS_TOO_LARGE",
            "The request has over 100 header fields or 16 KiB of them.",
        ))
    } else if has_two(headers, &header::TRANSFER_ENCODING)
        || headers.contains_key(header::TRANSFER_ENCODING) && !is_framed_once(request.method(), head)
    {
        let status = StatusCode::BAD_REQUEST;
        Some(error_body(
            status,
            "AMBIGUOUS_LENGTH",
            "The request has Transfer-Encoding twice, or Content-Length as well.",
        ))
    } else if has_two(headers, &header::HOST) || !is_for_one_host(request) {
        Some(error_body(StatusCode::BAD_REQUEST, "AMBIGUOUS_HOST", "The request names two hosts."))
    } else {
        None
    }
}

fn has_two(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

/// True where the request's target, or its `:authority`, names no other host than its Host field: a proxy in front of
/// us may have looked at either (RFC 9113, section 8.3.1).
fn is_for_one_host<B>(request: &Request<B>) -> bool {
    let (Some(target), Some(field)) = (request.uri().authority(), request.headers().get(header::HOST)) else {
        return true;
    };
    let field = str::from_utf8(field.as_bytes()).unwrap_or_default();
    target.as_str() == field
        || Authority::parse(target.as_str()).is_some_and(|host| Authority::parse(field) == Some(host))
}

/// True where the head of a request with Transfer-Encoding has no Content-Length as well, which would let a
/// proxy in front of us see other requests than we do. hyper drops the length before anyone can see it, and
/// ends the connection after the answer. False where `head` does not begin with the request's own head: it
/// was then sent before the last answer had been given, nobody can say what it had, and no client has a
/// reason to.
fn is_framed_once(method: &Method, head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let mut lines =
        head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    head.starts_with(method.as_str().as_bytes()) && !lines.any(is_content_length)
}

fn is_content_length(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next();
    name.is_some_and(|name| name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_host() {
        let refused = |uri: &str, fields: &[(&str, &str)]| {
            let request = fields
                .iter()
                .fold(Request::builder().uri(uri), |request, (name, value)| request.header(*name, *value));
            refuse(&request.body(()).unwrap(), b"GET / HTTP/1.1\r\n\r\n").map(|answer| answer.status())
        };
        let bad = Some(StatusCode::BAD_REQUEST);
        assert_eq!(refused("/", &[("host", "a.example")]), None);
        assert_eq!(refused("/", &[("host", "a.example"), ("host", "a.example")]), bad);
        assert_eq!(refused("http://a.example/", &[]), None);
        assert_eq!(refused("http://a.example/", &[("host", "A.example.:80")]), None);
        for other in ["b.example", "a.example:8080", "", "a.example, b.example"] {
            assert_eq!(refused("http://a.example/", &[("host", other)]), bad, "{other}");
        }
        assert_eq!(refused("/", &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]), bad);
    }

    #[test]
    fn a_second_length_is_seen_wherever_it_stands() {
        let once = |head: &str| is_framed_once(&Method::POST, head.as_bytes());
        assert!(once("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncontent-length: 3\r\n"));
        assert!(once("\r\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\n\n0\r\n\r\n"));
        assert!(!once("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nCONTENT-length: 3\r\n\r\n"));
        assert!(!once("POST / HTTP/1.1\nContent-Length:3\nTransfer-Encoding: chunked\n\n"));
        assert!(!once("Transfer-Encoding: chunked\r\n\r\n"), "the rest of a head");
        assert!(!once(""), "sent ahead");
    }
}
