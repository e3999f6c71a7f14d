//! Delivery as tests see it: destinations that are there, and what the event log has.

use std::sync::Arc;

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use event_log::{LogKeys, Place};
use migrations::{diesel, diesel_async};
use prost::Message;
use proto::event::Envelope;
use serde_json::{Value, json};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    browser::Browser, database::TestDatabase, eventually, seed::Customer, seed::seal_keys, world::World,
};

/// Adds an enabled destination to a source.
pub async fn add_destination(database: &TestDatabase, customer: &Customer, vendor: &str, config: &Value) {
    let Customer { org_id, source_id, .. } = customer;
    let sql = format!(
        "INSERT INTO destinations (id, org_id, source_id, vendor, enabled, config) \
        VALUES ('{}', '{org_id}', '{source_id}', '{vendor}', true, '{config}')",
        Uuid::now_v7()
    );
    database.execute(&sql).await;
}

impl World {
    /// Gives the customer's source a destination that nobody delivers to, and waits until the events of a browser that has
    /// nothing else to do with the test are kept.
    pub async fn keep_events(&self) {
        self.keep_events_of(&self.customer).await;
    }

    /// Gives a customer's source a destination that nobody delivers to, as [`World::keep_events`] does.
    pub async fn keep_events_of(&self, customer: &Customer) {
        add_destination(&self.database, customer, "webhook", &json!({})).await;
        self.events_are_kept(customer).await;
    }

    /// Waits until the events of a customer are kept, and removes those that tell.
    pub async fn events_are_kept(&self, customer: &Customer) {
        let mut scout = self.browser_of(customer);
        eventually("events to be kept", async || {
            let answer = scout.view(&Value::Null).await;
            let kept = self.kept(&scout).await.len();
            if kept > 0 { Ok(()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
        })
        .await;
        let sql = format!("DELETE FROM events WHERE source_id = '{}'", customer.source_id);
        TestDatabase::execute(&self.database, &sql).await;
    }

    /// The events of a browser that are in the log, in order.
    pub async fn kept(&self, browser: &Browser) -> Vec<Envelope> {
        let Some(anonymous_id) = browser.jar.value(&browser.collect, "_dfid") else { return Vec::new() };
        let all = envelopes(&self.database, &self.cluster.secrets.encryption_key).await;
        all.into_iter().filter(|event| event.anonymous_id == anonymous_id).collect()
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::Date)]
    day: Date,
    #[diesel(sql_type = sql_types::Uuid)]
    org_id: Uuid,
    #[diesel(sql_type = sql_types::Uuid)]
    source_id: Uuid,
    #[diesel(sql_type = sql_types::Uuid)]
    event_id: Uuid,
    #[diesel(sql_type = sql_types::Timestamptz)]
    received_at: OffsetDateTime,
    #[diesel(sql_type = sql_types::Binary)]
    body: Vec<u8>,
}

/// All events of a log, in order, opened with this key.
pub async fn envelopes(database: &TestDatabase, key: &str) -> Vec<Envelope> {
    let keys = LogKeys::derive(Arc::new(seal_keys(key, None)));
    let mut connection = database.connection().await.unwrap();
    let sql = "SELECT day, org_id, source_id, event_id, received_at, body FROM events ORDER BY seq";
    let rows: Vec<Row> = sql_query(sql).load(&mut connection).await.unwrap();
    let open = |row: Row| {
        assert_eq!(row.received_at.date(), row.day);
        let place = Place { org: row.org_id, source: row.source_id, event: row.event_id, day: row.day };
        Envelope::decode(keys.open(place, &row.body).unwrap().as_slice()).unwrap()
    };
    rows.into_iter().map(open).collect()
}
