//! Deadlines: the caller's, capped by the method's own. tonic would answer a passed one with CANCELLED.

use std::time::Duration;

use http::HeaderMap;

/// The shortest deadline with which a call is begun: less is too little to do anything in.
pub const LEAST: Duration = Duration::from_millis(5);

/// Decides how long a call may take: what its caller asks for, at most `cap`.
pub fn limit(headers: &HeaderMap, cap: Duration) -> Duration {
    asked(headers).map_or(cap, |asked| asked.min(cap))
}

/// Reads the `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2). One that can't be read
/// asks for nothing.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = plain.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        asked(&headers)
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999H"), Some(Duration::from_hours(99_999_999)));
        for odd in ["", "m", "1", "999999999S", "-1S", "1x", "1.5S"] {
            assert_eq!(of(odd), None, "{odd}");
        }
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
