//! Delivery as tests see it: destinations that are there, and what the event log has.

use std::{sync::Arc, time::Duration};

use diesel::{QueryableByName, sql_query, sql_types};
use event_log::{LogKeys, Place};
use migrations::{diesel, diesel_async, sealed::columns};
use prost::Message;
use proto::event::Envelope;
use serde_json::{Value, json};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    browser::Browser,
    database::TestDatabase,
    delivery_sim::DeliverySim,
    eventually,
    process::Service,
    seed::{Customer, seal_keys},
    within,
    world::{Options, World},
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
        self.database.execute(&sql).await;
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
    let rows: Vec<Row> = diesel_async::RunQueryDsl::load(sql_query(sql), &mut connection).await.unwrap();
    let open = |row: Row| {
        assert_eq!(row.received_at.date(), row.day);
        let place = Place { org: row.org_id, source: row.source_id, event: row.event_id, day: row.day };
        Envelope::decode(keys.open(place, &row.body).unwrap().as_slice()).unwrap()
    };
    rows.into_iter().map(open).collect()
}

/// A world whose source delivers to Amperity, which is simulated.
#[derive(Debug)]
pub struct Delivering {
    /// The stores, the core and the edge.
    pub world: World,
    /// The destination.
    pub sim: DeliverySim,
    /// The processors.
    pub processors: Vec<Service>,
    /// ID of the destination's row.
    pub destination: Uuid,
}

/// Key that the simulated stream takes.
pub const INGEST_KEY: &str = "ingest-canary-7c1f";

impl Delivering {
    /// A world with one processor and default settings.
    pub async fn start() -> Self {
        Self::with(Options::default(), &json!({})).await
    }

    /// A world with one processor, and these settings of the destination.
    pub async fn with(options: Options, config: &Value) -> Self {
        let options = Options { open_networks: "127.0.0.0/8", ..options };
        let world = World::with(options).await;
        let sim = DeliverySim::start().await.unwrap();
        let encryption_key = &world.cluster.secrets.encryption_key;
        add_tenant(&world.database, &world.customer, encryption_key, &sim.base_url(), INGEST_KEY).await;
        add_destination(&world.database, &world.customer, "amperity", config).await;
        world.events_are_kept(&world.customer).await;
        let destination = world.database.text("SELECT id FROM destinations").await.parse().unwrap();
        // What told that events are kept is behind it.
        world
            .database
            .execute("UPDATE delivery_cursors SET position = (SELECT max(seq) FROM event_heads)")
            .await;
        let mut delivering = Self { world, sim, processors: Vec::new(), destination };
        delivering.another_processor().await;
        delivering
    }

    /// Starts another processor, and answers with its number.
    pub async fn another_processor(&mut self) -> usize {
        self.processors.push(start_processor(&self.world, &[]).await);
        self.processors.len() - 1
    }

    /// A field of the destination's cursor, as text; empty where there is none.
    pub async fn cursor(&self, field: &str) -> String {
        self.world.database.text(&format!("SELECT coalesce({field}::text, '') FROM delivery_cursors")).await
    }

    /// Waits until all that was accepted is delivered, given up or parked.
    pub async fn settled(&self) {
        within(Duration::from_secs(30), "the cursor to come to the head", async || {
            let lag = "SELECT coalesce(max(h.seq - c.position), 0)::text FROM delivery_cursors c \
                JOIN event_heads h ON h.source_id = c.source_id";
            let lag = self.world.database.text(lag).await;
            if lag == "0" { Ok(()) } else { Err(format!("{lag} behind: {}", self.cursor("reason").await)) }
        })
        .await;
    }

    /// Sends purchases of a browser with these message IDs, which are all to be accepted.
    pub async fn send(&self, browser: &mut Browser, message_ids: &[String]) {
        let event = |id: &String| json!({"type": "track", "event": "purchase", "messageId": id, "properties": {"order_id": id, "value": 1.5}});
        let events: Vec<Value> = message_ids.iter().map(event).collect();
        let answer = browser.batch(&Value::from(events)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["accepted"], json!(message_ids.len()), "{}", answer.text());
    }
}

/// Starts a processor over a world, with further variables.
pub async fn start_processor(world: &World, env: &[(&str, &str)]) -> Service {
    let cores: Vec<String> =
        world.cluster.cores.iter().map(|core| format!("http://{}", core.addr("grpc"))).collect();
    let (cores, secrets) = (cores.join(","), &world.cluster.secrets);
    let mut all = vec![
        ("DATABASE_URL", world.database.url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
        ("SERVICE_TOKEN", &secrets.internal_token),
        ("IDENTITY_URL", &cores),
        ("OUTBOUND_ALLOW_CIDRS", "127.0.0.0/8"),
    ];
    all.extend_from_slice(env);
    Service::start("event-processor", &all, &["metrics"]).await.unwrap()
}

/// Gives a source a tenant of Amperity at that address, with a key, which `encryption_key` seals.
pub async fn add_tenant(
    database: &TestDatabase,
    customer: &Customer,
    encryption_key: &str,
    base_url: &str,
    key: &str,
) {
    let Customer { org_id, source_id, .. } = customer;
    let id = Uuid::now_v7();
    let config = json!({
        "tenant_subdomain": "acme", "tenant_id": "acme-tenant", "event_stream_id": "esm-2VP6va3Zn",
        "source_value": "DATAFLY", "base_url": base_url,
    });
    let sealed = sealed_key(*org_id, encryption_key, id, base_url, key);
    let sql = format!(
        "INSERT INTO profile_providers (id, org_id, source_id, provider, enabled, config, sealed, sealed_at, credentials) \
        VALUES ('{id}', '{org_id}', '{source_id}', 'amperity', true, '{config}', '\\x{sealed}', now(), ARRAY['api_key'])"
    );
    database.execute(&sql).await;
}

/// Gives the tenant another key.
pub async fn replace_key(world: &World, base_url: &str, key: &str) {
    let id: Uuid = world.database.text("SELECT id FROM profile_providers").await.parse().unwrap();
    let encryption_key = &world.cluster.secrets.encryption_key;
    let sealed = sealed_key(world.customer.org_id, encryption_key, id, base_url, key);
    let sql = format!("UPDATE profile_providers SET sealed = '\\x{sealed}', sealed_at = now()");
    world.database.execute(&sql).await;
}

fn sealed_key(org: Uuid, encryption_key: &str, row: Uuid, base_url: &str, key: &str) -> String {
    let keys = seal_keys(encryption_key, None);
    let plain = json!({"@origin": base_url, "api_key": key}).to_string();
    let place = columns::PROFILE_PROVIDERS.place(org, row);
    hex::encode(keys.seal(place, plain.as_bytes()).unwrap())
}
