//! What is watched of delivery as a whole: PostgreSQL, and how much waits at which vendor.

use std::{collections::BTreeMap, time::Duration};

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
    let mut counts = Counts::default();
    loop {
        if let Err(error) = counts.count(&pool).await {
            tracing::debug!(error, "what waits is not counted");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_PERIOD) => {}
        }
    }
}

/// What was counted, by vendor.
#[derive(Default)]
struct Counts {
    /// Destinations, by their state as well.
    destinations: BTreeMap<(String, String), f64>,
    /// Events that wait, and the age of the oldest in seconds.
    lag: BTreeMap<String, (f64, f64)>,
    /// Events that were given up, by the reason as well.
    dead: BTreeMap<(String, String), f64>,
}

/// Has zero, and not the last value, stand for what is not there any more: a gauge keeps what it was set to.
fn renew<K: Ord, V: Default>(known: &mut BTreeMap<K, V>, counted: BTreeMap<K, V>) {
    for value in known.values_mut() {
        *value = V::default();
    }
    known.extend(counted);
}

impl Counts {
    async fn count(&mut self, pool: &PgPool) -> Result<(), String> {
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
        let waiting: Vec<Waiting> =
            Prepared(waiting).load(&mut *connection).await.map_err(|error| error.to_string())?;
        let dead = sql_query(
            "SELECT d.vendor, COALESCE(x.reason, '') AS reason, count(*) AS events FROM deliveries x \
             JOIN destinations d ON d.id = x.destination_id WHERE x.dead_at IS NOT NULL GROUP BY 1, 2",
        );
        let dead: Vec<Dead> =
            Prepared(dead).load(&mut *connection).await.map_err(|error| error.to_string())?;
        self.take(waiting, dead);
        self.show();
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn take(&mut self, waiting: Vec<Waiting>, dead: Vec<Dead>) {
        let (mut destinations, mut lag) = (BTreeMap::new(), BTreeMap::<String, (f64, f64)>::new());
        for row in waiting {
            let (events, oldest) = lag.entry(row.vendor.clone()).or_default();
            (*events, *oldest) = (*events + row.events as f64, oldest.max(row.oldest));
            destinations.insert((row.vendor, row.state), row.destinations as f64);
        }
        let dead = dead.into_iter().map(|row| ((row.vendor, row.reason), row.events as f64));
        renew(&mut self.destinations, destinations);
        renew(&mut self.lag, lag);
        renew(&mut self.dead, dead.collect());
    }

    fn show(&self) {
        for ((vendor, state), count) in &self.destinations {
            gauge!("datafly_destinations", "vendor" => vendor.clone(), "state" => state.clone()).set(*count);
        }
        for (vendor, (events, oldest)) in &self.lag {
            gauge!("datafly_delivery_lag_events", "vendor" => vendor.clone()).set(*events);
            gauge!("datafly_delivery_lag_oldest_seconds", "vendor" => vendor.clone()).set(*oldest);
        }
        for ((vendor, reason), events) in &self.dead {
            gauge!("datafly_dead_letters", "vendor" => vendor.clone(), "reason" => reason.clone())
                .set(*events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_zero() {
        let row = |state: &str, events| Waiting {
            vendor: "amperity".to_owned(),
            state: state.to_owned(),
            destinations: 2,
            events,
            oldest: 7.0,
        };
        let letter = Dead { vendor: "amperity".to_owned(), reason: "status".to_owned(), events: 3 };
        let mut counts = Counts::default();
        counts.take(vec![row("down", 5), row("active", 1)], vec![letter]);
        assert_eq!(counts.lag["amperity"], (6.0, 7.0));
        counts.take(vec![row("active", 0)], Vec::new());
        let states: Vec<f64> = counts.destinations.values().copied().collect();
        assert_eq!(states, [2.0, 0.0], "active, down");
        assert_eq!(counts.dead.values().copied().collect::<Vec<_>>(), [0.0]);
        counts.take(Vec::new(), Vec::new());
        assert_eq!(counts.lag["amperity"], (0.0, 0.0));
    }
}
