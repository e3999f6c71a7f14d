//! Splits a body into raw events without looking into them, and reads what stands beside them.

use std::fmt;

use proto::v1::ErrorReason;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{Event, MAX_EVENT_BYTES, reader::Reader};

/// Most events in a batch; one with more is 413 as a whole.
pub const MAX_EVENTS: usize = 500;

/// A body that was split.
pub struct Body<'a> {
    /// The events, 1 to 500, as they were sent.
    pub events: Vec<&'a RawValue>,
    /// The batch's own context, from which each event takes what it has not itself.
    pub shared: Option<Event<'a>>,
    /// That context as it was sent; none where there is none.
    pub context: Option<&'a RawValue>,
    /// False where the sender wants no pending syncs; none of a body that is one event, which says so itself.
    pub wants_syncs: Option<bool>,
}

/// Splits `{"batch":[…],"context":{…},"syncs":false}`. Other members are ignored: whose data these are, the key says.
pub fn split(body: &[u8]) -> Result<Body<'_>, ErrorReason> {
    let Outline { batch, contexts, wants_syncs } = read(body)?;
    let events = match batch {
        None => return Err(ErrorReason::EmptyBatch),
        Some(Events::TooMany) => return Err(ErrorReason::PayloadTooLarge),
        Some(Events::All(events)) if events.is_empty() => return Err(ErrorReason::EmptyBatch),
        Some(Events::All(events)) => events,
    };
    let context = contexts.last().copied().filter(|context| context.get().starts_with('{'));
    Ok(Body { events, shared: shared(&contexts)?, context, wants_syncs: Some(wants_syncs) })
}

/// Takes the event that is the whole body: an object.
pub fn single(body: &[u8]) -> Result<Body<'_>, ErrorReason> {
    let event: &RawValue = read(body)?;
    let is_object = event.get().starts_with('{');
    is_object
        .then(|| Body { events: vec![event], shared: None, context: None, wants_syncs: None })
        .ok_or(ErrorReason::InvalidJson)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ErrorReason> {
    let text = std::str::from_utf8(body).map_err(|_| ErrorReason::InvalidJson)?;
    serde_json::from_str(text).map_err(|_| ErrorReason::InvalidJson)
}

/// The batch's own context. It is part of every event, and as sound and as small as one; else it spoils them all.
fn shared<'a>(contexts: &[&'a RawValue]) -> Result<Option<Event<'a>>, ErrorReason> {
    if contexts.is_empty() {
        return Ok(None);
    }
    let (mut event, mut at) = (Event::default(), None);
    for context in contexts {
        if context.get().len() > MAX_EVENT_BYTES {
            return Err(ErrorReason::EventTooLarge);
        }
        let reader = Reader::of_batch(&mut event, &mut at);
        let read = reader.deserialize(&mut serde_json::Deserializer::from_str(context.get()));
        read.map_err(|_| ErrorReason::InvalidJson)?;
    }
    event.settle_traits();
    Ok(Some(event))
}

/// A batch's body as it stands, its events and contexts raw.
struct Outline<'a> {
    batch: Option<Events<'a>>,
    contexts: Vec<&'a RawValue>,
    wants_syncs: bool,
}

/// Name of a member of a batch's body.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Batch,
    Context,
    Syncs,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Outline<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OutlineVisitor)
    }
}

struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline<'de>, A::Error> {
        let mut outline = Outline { batch: None, contexts: Vec::new(), wants_syncs: true };
        while let Some(name) = map.next_key()? {
            match name {
                Name::Batch if outline.batch.is_some() => return Err(A::Error::custom("two batches")),
                Name::Batch => outline.batch = map.next_value()?,
                Name::Context => outline.contexts.push(map.next_value()?),
                Name::Syncs => outline.wants_syncs &= map.next_value::<&RawValue>()?.get() != "false",
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(outline)
    }
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
