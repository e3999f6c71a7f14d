//! What is kept of a person's events: in the log, and for destinations that have not taken them.

use event_log::LogKeys;
use migrations::sealed::columns;
use prost::Message;
use proto::event::Envelope;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{IdentityAdmin, document::text, lookup::StoredPerson};
use crate::{
    error::Result,
    storage::postgres::deliveries::{self, DeliveryRow},
};

/// Most events of each kind that are listed, the newest.
const MAX_LISTED: usize = 500;
/// Most bytes of events that are listed: an answer has to fit into a message.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// What is kept of a person's events.
#[derive(Debug, Default)]
pub struct KeptEvents {
    /// Those in the log, the newest first.
    pub events: Vec<Value>,
    /// Those that a destination has not taken, the newest first.
    pub deliveries: Vec<Value>,
    /// False where there is more than is listed.
    pub is_all: bool,
}

impl IdentityAdmin {
    /// Reads what is kept of a person's events, from PostgreSQL.
    pub async fn events_of(&self, org: Uuid, person: &StoredPerson) -> Result<KeptEvents> {
        let limit = i64::try_from(MAX_LISTED + 1).unwrap_or(i64::MAX);
        let mut connection = self.stores.connection().await?;
        let logged = event_log::of_people(&mut connection, org, &person.canonicals, limit).await?;
        let waiting = deliveries::of_people(&mut connection, org, &person.canonicals, limit).await?;
        drop(connection);
        let is_few = logged.len() <= MAX_LISTED && waiting.len() <= MAX_LISTED;
        let keys = LogKeys::derive(self.seal_keys.clone());
        let mut room = MAX_BYTES;
        let mut fits = |bytes: usize| {
            let left = room.checked_sub(bytes);
            room = left.unwrap_or(0);
            left.is_some()
        };
        let mut kept = KeptEvents { is_all: is_few, ..KeptEvents::default() };
        for stored in logged.into_iter().take(MAX_LISTED) {
            if !fits(stored.body.len()) {
                kept.is_all = false;
                break;
            }
            let envelope = keys.open(stored.place, &stored.body).ok();
            let mut listed = read(envelope.as_deref().map(Vec::as_slice));
            listed.insert("event_id".to_owned(), json!(stored.place.event));
            listed.insert("source_id".to_owned(), json!(stored.place.source));
            listed.insert("received_at".to_owned(), json!(text(stored.received_at)));
            kept.events.push(Value::Object(listed));
        }
        for row in waiting.into_iter().take(MAX_LISTED) {
            if !fits(row.sealed.len()) {
                kept.is_all = false;
                break;
            }
            kept.deliveries.push(self.waiting(org, &row));
        }
        Ok(kept)
    }

    fn waiting(&self, org: Uuid, row: &DeliveryRow) -> Value {
        let envelope = self.seal_keys.open(columns::DELIVERIES.place(org, row.id), &row.sealed).ok();
        let mut listed = read(envelope.as_deref().map(Vec::as_slice));
        let own = [
            ("event_id", json!(row.event_id)),
            ("destination_id", json!(row.destination_id)),
            ("received_at", json!(text(row.received_at))),
            ("dead_at", json!(row.dead_at.map(text))),
            ("reason", json!(row.reason)),
        ];
        listed.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(listed)
    }
}

/// Writes what an envelope has of a person; nothing of one whose key is gone.
fn read(envelope: Option<&[u8]>) -> Map<String, Value> {
    let Some(envelope) = envelope.and_then(|bytes| Envelope::decode(bytes).ok()) else { return Map::new() };
    // As it came: a message can't hold every number, or a name twice.
    let as_text = |json: &[u8]| json!(String::from_utf8_lossy(json));
    let own = [
        ("anonymous_id", json!(envelope.anonymous_id)),
        ("user_id", json!(envelope.user_id)),
        ("client_ip", json!(envelope.client_ip)),
        ("user_agent", json!(envelope.user_agent)),
        ("event", as_text(&envelope.json)),
        ("batch_context", as_text(&envelope.batch_context)),
    ];
    own.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}
