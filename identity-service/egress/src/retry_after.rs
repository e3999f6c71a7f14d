//! `Retry-After` (RFC 9110, 10.2.3): seconds, or a date in any of HTTP's three forms.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// Bounds of a pause that somebody may ask for: none is a mistake, and none parks a provider for a year.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// Reads how long somebody wants to be left alone, 1 s to 1 h; none where they say nothing that can be read. A date counts
/// from the answer's own `Date`, as clocks differ; without one from `now`.
pub fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let pause = text(header::RETRY_AFTER).and_then(|value| {
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(value.parse().map_or(BOUNDS.1, Duration::from_secs));
        }
        let until = httpdate::parse_http_date(value).ok()?;
        let from = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
        Some(until.duration_since(from).unwrap_or_default())
    });
    pause.map(|pause| pause.clamp(BOUNDS.0, BOUNDS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_what_is_neither() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(498_682);
        let read = |value: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(header::DATE, date.parse().unwrap());
            }
            super::read(&headers, now).map(|pause| pause.as_secs())
        };
        for (value, seconds) in
            [("3", 3), ("0", 1), ("3600", 3600), ("3601", 3600), ("99999999999999999999", 3600)]
        {
            assert_eq!(read(value, None), Some(seconds), "{value}");
        }
        // Saturday, 21 November 2026, 10:00:00.
        for date in
            ["Sat, 21 Nov 2026 10:00:30 GMT", "Saturday, 21-Nov-26 10:00:30 GMT", "Sat Nov 21 10:00:30 2026"]
        {
            assert_eq!(read(date, None), Some(30), "{date}");
            assert_eq!(read(date, Some("Sat, 21 Nov 2026 10:00:10 GMT")), Some(20), "{date}");
        }
        assert_eq!(read("Sat, 21 Nov 2020 10:00:00 GMT", None), Some(1), "past");
        for odd in ["", "-3", "1.5", "+3", "soon", "3 s"] {
            assert_eq!(read(odd, None), None, "{odd}");
        }
        assert_eq!(super::read(&HeaderMap::new(), now), None);
    }
}
