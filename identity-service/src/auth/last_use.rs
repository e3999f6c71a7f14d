//! When a pipeline key was last used, to the day: who wants to revoke one sees whether it is in use. Kept in memory and
//! written now and then; what a process that dies had not written is lost.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use time::Date;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    settings::{Settings, Snapshot},
    storage::{Stores, postgres::keys},
};

/// How often what is new is written: for each key at most once a day.
const PERIOD: Duration = Duration::from_secs(5);

/// One key's last use, as Julian days; 0 is never.
#[derive(Debug, Default)]
pub struct LastUse {
    used: AtomicI32,
    written: AtomicI32,
}

impl LastUse {
    /// It was used on that day. On the way of every visitor: one load, but for the first of a day.
    pub fn mark(&self, day: Date) {
        let day = day.to_julian_day();
        if self.used.load(Ordering::Relaxed) < day {
            self.used.store(day, Ordering::Relaxed);
        }
    }

    /// The day that is to be written.
    fn unwritten(&self) -> Option<Date> {
        let used = self.used.load(Ordering::Relaxed);
        (used != self.written.load(Ordering::Relaxed)).then(|| Date::from_julian_day(used).ok()).flatten()
    }
}

/// Writes what is new until `stop`.
pub async fn write_until(stores: Stores, settings: Settings, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let written = match settings.current().await {
            Ok(snapshot) => write(&stores, &snapshot).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            // The next round has it again.
            tracing::debug!(%error, "last uses of keys are not written");
        }
    }
}

async fn write(stores: &Stores, snapshot: &Snapshot) -> Result<()> {
    let new: Vec<_> = snapshot.keys().filter_map(|key| Some((key, key.last_use.unwritten()?))).collect();
    if new.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = new.iter().map(|(key, day)| (key.source.org, key.id, *day)).collect();
    keys::used_on(&mut *stores.connection().await?, &rows).await?;
    for (key, day) in new {
        key.last_use.written.store(day.to_julian_day(), Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_day_is_written_once() {
        let key = LastUse::default();
        assert_eq!(key.unwritten(), None);
        key.mark(date!(2026 - 11 - 21));
        key.mark(date!(2026 - 11 - 21));
        assert_eq!(key.unwritten(), Some(date!(2026 - 11 - 21)));
        key.written.store(date!(2026 - 11 - 21).to_julian_day(), Ordering::Relaxed);
        // A clock that was set back.
        key.mark(date!(2026 - 11 - 20));
        assert_eq!(key.unwritten(), None);
        key.mark(date!(2026 - 11 - 22));
        assert_eq!(key.unwritten(), Some(date!(2026 - 11 - 22)));
    }
}
