//! Writing down on which day each pipeline key was last used, so that whoever wants to revoke one sees
//! whether it is in use.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Stores, postgres::keys};
use crate::{
    error::Result,
    settings::{Settings, Snapshot},
};

/// Pause between two looks for new uses: of each key there is at most one a day.
const PERIOD: Duration = Duration::from_secs(5);

/// Writes what is new every few seconds, until `stop`.
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
        key.last_use.wrote(day);
    }
    Ok(())
}
