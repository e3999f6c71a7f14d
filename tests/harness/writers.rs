//! Visitors who keep coming while something is broken, and a memory of what was acknowledged to them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::World;

/// Pause between two visitors of one writer: enough to keep a pool busy, and a test machine not.
const PAUSE: Duration = Duration::from_millis(5);

/// Writers at work. Each visitor is new, logs in and grants consent: an identity, a link and consent to
/// store.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
}

impl Writers {
    /// Starts that many writers.
    pub fn start(world: &World, count: usize) -> Self {
        let mut writers = Self { tasks: JoinSet::new(), stop: Arc::default(), taken: Arc::default() };
        for _ in 0..count {
            let (stop, taken) = (Arc::clone(&writers.stop), Arc::clone(&writers.taken));
            let mut browser = world.browser();
            writers.tasks.spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let visitor = Uuid::new_v4().to_string();
                    browser.anonymous_id = Some(visitor.clone());
                    browser.jar.clear();
                    let mut event = browser.page_view(&json!({"marketing": true}));
                    event["userId"] = json!(format!("user-{visitor}"));
                    let answer = browser.batch(&json!([event])).await;
                    if answer.status == 200 && answer.json()["accepted"] == json!(1) {
                        acknowledged.push(visitor);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                acknowledged
            });
        }
        writers
    }

    /// Number of visitors that were taken so far.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until that many more have been taken, the first of them within `limit`: how many follow each
    /// second is the machine's affair.
    pub async fn take(&self, more: usize, limit: Duration) {
        let before = self.taken();
        for (goal, limit) in [(before + 1, limit), (before + more, crate::EVENTUALLY_LIMIT)] {
            crate::within(limit, "visitors to be taken", async || match self.taken() {
                taken if taken >= goal => Ok(()),
                taken => Err(format!("{taken} of {goal}")),
            })
            .await;
        }
    }

    /// Ends the writers, and checks that all that was acknowledged is stored, and that delivery says the
    /// same.
    pub async fn check(self, world: &World) {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged: Vec<String> = self.tasks.join_all().await.concat();
        let list = acknowledged.join("','");
        let links = format!("kind = 0 AND value IN ('{list}')");
        let stored = world.database.count("links", &links).await;
        assert_eq!(usize::try_from(stored), Ok(acknowledged.len()), "visitors of whom PostgreSQL knows");
        let users = format!("kind = 1 AND canonical_id IN (SELECT canonical_id FROM links WHERE {links})");
        assert_eq!(world.database.count("links", &users).await, stored, "their logins");
        let consents = format!("anonymous_id IN ('{list}')");
        assert_eq!(world.database.count("consent", &consents).await, stored, "their consent");
        let sql = "SELECT coalesce(jsonb_object_agg(value, canonical_id), '{}') FROM links WHERE kind = 0";
        let truth: serde_json::Value = serde_json::from_str(&world.database.text(sql).await).unwrap();
        for visitor in acknowledged.iter().rev().step_by(acknowledged.len() / 50 + 1) {
            let delivered = world.vendor_ids(visitor).await.canonical_id;
            assert_eq!(Some(delivered.as_str()), truth[visitor].as_str(), "identity of {visitor}");
        }
    }
}
