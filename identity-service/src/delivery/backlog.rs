//! Sources of which so much waits for a destination that no more is taken.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    error::Result,
    settings::Settings,
    storage::{Stores, postgres::deliveries},
};

/// Period of looks at how much waits.
const PERIOD: Duration = Duration::from_secs(1);

/// The sources that are full, as this process knows them.
#[derive(Clone, Default)]
pub struct Backlog(Arc<ArcSwap<HashSet<Uuid>>>);

impl Backlog {
    /// True where no more events of a source are taken.
    pub fn is_full(&self, source: Uuid) -> bool {
        self.0.load().contains(&source)
    }

    /// Looks again and again, until `stop`, at the sources of which more than `limit` bytes wait. While the log can't be
    /// asked, what is known counts.
    pub async fn watch_until(self, stores: Stores, settings: Settings, limit: i64, stop: CancellationToken) {
        loop {
            let is_used = settings.current().await.is_ok_and(|all| all.sources().any(|own| own.keeps_events));
            if is_used && let Err(error) = self.look(&stores, limit).await {
                tracing::debug!(%error, "the backlog is not known");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn look(&self, stores: &Stores, limit: i64) -> Result<()> {
        let full = deliveries::full_sources(&mut *stores.connection().await?, limit).await?;
        for source in &full {
            if !self.is_full(*source) {
                tracing::warn!(%source, "too much waits for a destination: no more events are taken");
            }
        }
        self.0.store(Arc::new(full.into_iter().collect()));
        Ok(())
    }
}
