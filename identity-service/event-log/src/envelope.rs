//! An event on its way into the log: what it has to be, and the message ID that it brings.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Largest event in bytes.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Longest message ID that is told from others, in bytes.
const MAX_MESSAGE_ID_BYTES: usize = 1024;

/// The reason why something is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// It is larger than [`MAX_EVENT_BYTES`].
    #[error("larger than 32 KiB")]
    TooLarge,
    /// It is no JSON object.
    #[error("no JSON object")]
    NoObject,
}

/// An event that may be kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Its own message ID; none where it has none that can be used.
    pub message_id: Option<Cow<'a, str>>,
}

impl<'a> Incoming<'a> {
    /// Reads an event, all of which has to be JSON.
    pub fn read(json: &'a [u8]) -> Result<Self, NotAnEvent> {
        if json.len() > MAX_EVENT_BYTES {
            return Err(NotAnEvent::TooLarge);
        }
        // What the reader passes over it does not look at as text.
        let text = std::str::from_utf8(json).map_err(|_| NotAnEvent::NoObject)?;
        serde_json::from_str(text).map_err(|_| NotAnEvent::NoObject)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Incoming<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(IncomingVisitor)
    }
}

struct IncomingVisitor;

/// Name of a member of an event.
#[derive(Deserialize)]
#[serde(field_identifier)]
enum Name {
    #[serde(rename = "messageId", alias = "message_id")]
    MessageId,
    #[serde(other)]
    Other,
}

/// A message ID, or what stands in its place and is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum MessageId<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

impl<'de> Visitor<'de> for IncomingVisitor {
    type Value = Incoming<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Incoming<'de>, A::Error> {
        let mut message_id = None;
        while let Some(name) = map.next_key()? {
            match name {
                Name::MessageId => {
                    if let MessageId::Text(text) = map.next_value()? {
                        message_id.get_or_insert(text);
                    }
                }
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let fits = |text: &Cow<'_, str>| (1..=MAX_MESSAGE_ID_BYTES).contains(&text.trim().len());
        Ok(Incoming { message_id: message_id.filter(fits) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_an_event_and_nothing_else_is() {
        let id = |json: &'static str| {
            Incoming::read(json.as_bytes()).map(|event| event.message_id.map(Cow::into_owned))
        };
        assert_eq!(id(r#"{"a":[1,{}],"messageId":"m","b":null}"#), Ok(Some("m".to_owned())));
        assert_eq!(id(r#"{"message_id":"m\u0041"}"#), Ok(Some("mA".to_owned())));
        for none in [
            r"{}",
            r#"{"messageId":1}"#,
            r#"{"messageId":null}"#,
            r#"{"messageId":" "}"#,
            r#"{"messageId":{"a":1}}"#,
        ] {
            assert_eq!(id(none), Ok(None), "{none}");
        }
        for no in ["", "[]", "1", "null", r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":01}"#, r#""x""#] {
            assert_eq!(id(no), Err(NotAnEvent::NoObject), "{no}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT_BYTES));
        assert_eq!(Incoming::read(large.as_bytes()), Err(NotAnEvent::TooLarge));
        assert_eq!(Incoming::read(b"{\"a\":\"\xff\"}"), Err(NotAnEvent::NoObject));
    }
}
