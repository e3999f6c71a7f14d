//! Query strings, strictly: what can't be read is refused instead of guessed.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use proto::v1::ErrorReason;

use crate::error::ApiError;

/// Parameters of a request, decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads `raw` (without the `?`): form encoding, where `+` is a space. A broken escape, invalid UTF-8 or
    /// a control character anywhere is 400.
    pub fn parse(raw: Option<&'a str>) -> Result<Self, ApiError> {
        let pairs = raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(decode_pair);
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| malformed("The query string is malformed."))
    }

    /// The value of `name`; 400 where it is repeated.
    pub fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_ref());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(malformed(&format!("The parameter {name} is repeated."))),
            (value, None) => Ok(value),
        }
    }
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(ErrorReason::InvalidArgument, message.to_owned())
}

fn decode_pair(pair: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((decode(name)?, decode(value)?))
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    // The decoder leaves a broken escape as it is.
    let mut escapes = text.split('%').skip(1);
    if !escapes.all(|rest| rest.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())))
    {
        return None;
    }
    let value = if text.contains('+') {
        Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8().ok()?.into_owned())
    } else {
        percent_decode_str(text).decode_utf8().ok()?
    };
    (!value.chars().any(char::is_control)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_round_trip() {
        let query = Query::parse(Some("aid=a%26b%23%3F%25%F0%9F%8D%AA&x=1+2&empty=&flag&&eq=a=b")).unwrap();
        assert_eq!(query.one("aid").unwrap(), Some("a&b#?%🍪"));
        assert_eq!(query.one("x").unwrap(), Some("1 2"));
        assert_eq!(query.one("empty").unwrap(), Some(""));
        assert_eq!(query.one("flag").unwrap(), Some(""));
        assert_eq!(query.one("eq").unwrap(), Some("a=b"));
        assert_eq!(query.one("none").unwrap(), None);
    }

    #[test]
    fn what_is_broken_or_repeated_is_refused() {
        for raw in ["a=%0d%0aLocation:x", "a=%00", "%ff=1", "a=%F0%9F", "a=%", "a=%4", "a=%zz", "a=%é"] {
            assert!(Query::parse(Some(raw)).is_err(), "{raw}");
        }
        let query = Query::parse(Some("a=1&%61=2")).unwrap();
        assert!(query.one("a").is_err());
    }
}
