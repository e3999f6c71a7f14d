//! Splits a body into raw events without looking into them.

use std::fmt;

use proto::v1::ErrorReason;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most events in a batch; one with more is 413 as a whole.
pub const MAX_EVENTS: usize = 500;

/// Events of `{"batch":[…]}`, 1 to 500. Other members are ignored: whose data these are, the key says.
pub fn split(body: &[u8]) -> Result<Vec<&RawValue>, ErrorReason> {
    let body: Body<'_> = read(body)?;
    match body.batch {
        None => Err(ErrorReason::EmptyBatch),
        Some(Events::TooMany) => Err(ErrorReason::PayloadTooLarge),
        Some(Events::All(events)) if events.is_empty() => Err(ErrorReason::EmptyBatch),
        Some(Events::All(events)) => Ok(events),
    }
}

/// Event that is the whole body: an object.
pub fn single(body: &[u8]) -> Result<Vec<&RawValue>, ErrorReason> {
    let event: &RawValue = read(body)?;
    if event.get().starts_with('{') { Ok(vec![event]) } else { Err(ErrorReason::InvalidJson) }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ErrorReason> {
    let text = std::str::from_utf8(body).map_err(|_| ErrorReason::InvalidJson)?;
    serde_json::from_str(text).map_err(|_| ErrorReason::InvalidJson)
}

#[derive(serde::Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    batch: Option<Events<'a>>,
}

enum Events<'a> {
    All(Vec<&'a RawValue>),
    TooMany,
}

impl<'de: 'a, 'a> Deserialize<'de> for Events<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EventsVisitor)
    }
}

struct EventsVisitor;

impl<'de> Visitor<'de> for EventsVisitor {
    type Value = Events<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Events<'de>, A::Error> {
        let mut events = Vec::new();
        while events.len() < MAX_EVENTS {
            match seq.next_element()? {
                Some(event) => events.push(event),
                None => return Ok(Events::All(events)),
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_none() {
            return Ok(Events::All(events));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Events::TooMany)
    }
}
