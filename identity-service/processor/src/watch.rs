//! What is watched of delivery as a whole: PostgreSQL, and how much waits at which vendor.

use std::time::Duration;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Double, Text},
};
use diesel_async::RunQueryDsl;
use metrics::gauge;
use migrations::{
    pool::{PgPool, Supervisor},
    prepared::Prepared,
};
use serve::Lifecycle;
use tokio_util::sync::CancellationToken;

/// Period of looks at PostgreSQL.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Period of counting what waits.
const COUNT_PERIOD: Duration = Duration::from_secs(5);

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = Text)]
    vendor: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    destinations: i64,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = Double)]
    oldest: f64,
}

#[derive(QueryableByName)]
struct Dead {
    #[diesel(sql_type = Text)]
    vendor: String,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = BigInt)]
    events: i64,
}

/// Looks after the pool until `stop`; the process is ready while PostgreSQL is there.
pub async fn postgres_until(pool: PgPool, lifecycle: Lifecycle, stop: CancellationToken) {
    let mut supervisor = Supervisor::new(pool);
    loop {
        let is_up = supervisor.look().await;
        gauge!("datafly_dependency_up", "dependency" => "postgres").set(if is_up { 1.0 } else { 0.0 });
        lifecycle.set_dependencies(is_up);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_PERIOD) => {}
        }
    }
}

/// Counts what waits, again and again until `stop`.
pub async fn count_until(pool: PgPool, stop: CancellationToken) {
    loop {
        if let Err(error) = count(&pool).await {
            tracing::debug!(error, "what waits is not counted");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_PERIOD) => {}
        }
    }
}

async fn count(pool: &PgPool) -> Result<(), String> {
    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
    let waiting = sql_query(
        "SELECT d.vendor, CASE WHEN c.paused_at IS NOT NULL THEN 'paused' ELSE COALESCE(c.reason, 'active') END AS state, \
             count(*) AS destinations, COALESCE(sum(h.events - c.events), 0)::bigint AS events, \
             COALESCE(max(extract(epoch FROM now() - oldest.received_at)), 0)::float8 AS oldest \
         FROM destinations d JOIN delivery_cursors c ON c.destination_id = d.id \
         LEFT JOIN event_heads h ON h.source_id = d.source_id AND h.seq > c.position \
         LEFT JOIN LATERAL (SELECT received_at FROM events e WHERE e.source_id = h.source_id AND e.seq > c.position \
             ORDER BY e.seq LIMIT 1) AS oldest ON true \
         WHERE d.enabled GROUP BY 1, 2",
    );
    let rows: Vec<Waiting> =
        Prepared(waiting).load(&mut *connection).await.map_err(|error| error.to_string())?;
    let (mut events, mut oldest) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for row in rows {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (count, waiting) = (row.destinations as f64, row.events as f64);
        gauge!("datafly_destinations", "vendor" => row.vendor.clone(), "state" => row.state).set(count);
        *events.entry(row.vendor.clone()).or_insert(0.0) += waiting;
        let known = oldest.entry(row.vendor).or_insert(0.0_f64);
        *known = known.max(row.oldest);
    }
    for (vendor, count) in events {
        gauge!("datafly_delivery_lag_events", "vendor" => vendor).set(count);
    }
    for (vendor, seconds) in oldest {
        gauge!("datafly_delivery_lag_oldest_seconds", "vendor" => vendor).set(seconds);
    }
    let dead = sql_query(
        "SELECT d.vendor, COALESCE(x.reason, '') AS reason, count(*) AS events FROM deliveries x \
         JOIN destinations d ON d.id = x.destination_id WHERE x.dead_at IS NOT NULL GROUP BY 1, 2",
    );
    let rows: Vec<Dead> = Prepared(dead).load(&mut *connection).await.map_err(|error| error.to_string())?;
    for row in rows {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = row.events as f64;
        gauge!("datafly_dead_letters", "vendor" => row.vendor, "reason" => row.reason).set(count);
    }
    Ok(())
}
