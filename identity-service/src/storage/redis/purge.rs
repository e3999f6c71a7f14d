//! Purging: a server that this process does not know may hold old values: it was restored from an older dump,
//! or it is a replica that was promoted before it had everything. Old values can't be told from good ones, so
//! all serving keys go, which loses nothing, and PostgreSQL serves meanwhile. Every core does so whenever it
//! moves to another server: what it changed while it was elsewhere is then in nobody's way.

use std::time::Duration;

use bb8_redis::redis::{ErrorKind, RedisError, cmd};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Lane, RedisClient},
    keys::{self, SERVER},
    protocol::{Invalidated, Stale},
    server::Server,
};
use crate::error::Result;

/// Pause between looks for an unknown server; a look is an atomic load.
const PERIOD: Duration = Duration::from_millis(20);
/// Pause after a purge that failed.
const RETRY: Duration = Duration::from_millis(250);
/// Keys asked for in one SCAN. Redis serves others in between.
const SCAN_COUNT: u32 = 500;
/// The longest a batch may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Purges servers that are not known, until `stop`.
pub async fn purge_until(client: RedisClient, stop: CancellationToken) {
    // Said once, not four times a second.
    let mut said = false;
    loop {
        let state = client.state();
        let mut pause = PERIOD;
        if state.is_unknown_server() && !state.is_away() {
            let purged = tokio::select! {
                () = stop.cancelled() => return,
                purged = purge(&client) => purged,
            };
            if let Err(error) = &purged {
                if !said {
                    tracing::error!(%error, "redis can't be purged, and is not believed");
                }
                pause = RETRY;
            }
            said = purged.is_err();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Invalidates every serving key of the server that the name leads to, and believes it from then on.
async fn purge(client: &RedisClient) -> Result<()> {
    let lane = client.open().await?;
    let purged = purge_over(client, &lane).await;
    // Its connection ends with it; what is not left stays among those that are open.
    lane.leave();
    purged
}

async fn purge_over(client: &RedisClient, lane: &Lane) -> Result<()> {
    let mut connection = lane.connection.clone();
    connection.set_response_timeout(TIMEOUT);
    let server = Server::ask(&mut connection).await?;
    if client.state().check_server(&server) && !client.state().is_unknown_server() {
        return Ok(());
    }
    let (mut cursor, mut purged) = (0_u64, 0);
    loop {
        let (next, names): (u64, Vec<Vec<u8>>) =
            cmd("SCAN").arg(cursor).arg("COUNT").arg(SCAN_COUNT).query_async(&mut connection).await?;
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        let serving = names.filter(|name| keys::serves(name));
        let serving: Vec<Stale> = serving.map(|key| Stale { key, writer: String::new() }).collect();
        // A key that a writer has marked gets a value that includes all that was committed before.
        for end in RedisClient::invalidate_over(&mut connection, &serving).await? {
            match end {
                Invalidated::Done => purged += 1,
                Invalidated::Busy => {}
                Invalidated::Failed => {
                    return Err(RedisError::from((ErrorKind::Client, "a key can't be dropped")).into());
                }
            }
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let () = cmd("SET").arg(SERVER).arg(&server.identity).query_async(&mut connection).await?;
    client.state().accept_server(server.identity, || client.leave_all());
    tracing::info!(purged, "redis is another server; its values are loaded anew");
    Ok(())
}
