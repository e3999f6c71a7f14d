//! Writing down what is seen of calls with pipeline keys: on which day each key was last used, so that whoever wants to
//! revoke one sees whether it is in use, and by which host one was refused last.

use std::time::Duration;

use time::Date;
use tokio_util::sync::CancellationToken;

use super::{
    Stores,
    postgres::{keys, refused_hosts},
};
use crate::{
    error::Result,
    settings::{PipelineKey, Settings, Snapshot},
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
            tracing::debug!(%error, "what was seen of keys is not written");
        }
    }
}

async fn write(stores: &Stores, snapshot: &Snapshot) -> Result<()> {
    let new: Vec<_> = snapshot.keys().filter_map(|key| Some((key, key.last_use.unwritten()?))).collect();
    if !new.is_empty() {
        write_uses(stores, &new).await?;
    }
    let refused: Vec<_> =
        snapshot.sources().filter_map(|source| Some((source, source.refused_host.unwritten()?))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        refused.iter().map(|(source, (host, day))| (source.org, source.id, host.as_str(), *day)).collect();
    refused_hosts::write(&mut *stores.connection().await?, &rows).await?;
    for (source, host) in &refused {
        source.refused_host.wrote(host);
    }
    Ok(())
}

async fn write_uses(stores: &Stores, new: &[(&PipelineKey, Date)]) -> Result<()> {
    let rows: Vec<_> = new.iter().map(|(key, day)| (key.source.org, key.id, *day)).collect();
    keys::used_on(&mut *stores.connection().await?, &rows).await?;
    for (key, day) in new {
        key.last_use.wrote(*day);
    }
    Ok(())
}
