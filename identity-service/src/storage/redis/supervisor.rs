//! The supervisor: looks whether every lane leads to a primary that answers, and lets Redis be used or not.

use std::time::Duration;

use bb8_redis::redis::RedisError;
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    client::{Lane, RedisClient},
    server::Server,
    state::count,
};

/// Pause between looks. With [`CHECK_TIMEOUT`] and the second that health takes, a loss shows within 2 s.
const PERIOD: Duration = Duration::from_millis(500);
/// The longest a lane may take to answer. More than a request waits: a busy machine is not a lost server.
const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause between tries while Redis is away.
const RECONNECT_PERIOD: Duration = Duration::from_millis(100);

/// The longest the supervisor looks through one lane. A name that leads to another server shows to new
/// connections only, and the old one may go on as a primary; writes are due to succeed 5 s after a failover.
const RENEW: Duration = Duration::from_millis(1500);

/// The supervisor's lane, and when it was opened; none before the first and after a failure.
type Own = Option<(Lane, Instant)>;

/// Watches the client and lets Redis be used or not, until `stop`.
pub async fn watch(client: RedisClient, stop: CancellationToken) {
    // A lane of its own, so that something is looked at even while nobody asks for anything.
    let mut own = None;
    loop {
        look(&client, &mut own).await;
        let state = client.state();
        let pause = if state.is_away() { RECONNECT_PERIOD } else { PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = state.left() => {}
        }
    }
}

async fn look(client: &RedisClient, own: &mut Own) {
    let state = client.state();
    *own = own.take().filter(|(lane, _)| !state.is_away() && !lane.is_left());
    // A server that takes no further connection may still serve those that it has.
    if let Some((lane, opened)) = own
        && opened.elapsed() >= RENEW
    {
        match client.open().await {
            Ok(fresh) => {
                lane.leave();
                *own = Some((fresh, Instant::now()));
            }
            Err(error) => count(&error),
        }
    }
    if own.is_none() {
        if state.is_away() {
            client.leave_all();
        }
        // To be used again it has to answer a new connection, as fast as requests need it.
        match client.open().await {
            Ok(lane) => {
                *own = Some((lane, Instant::now()));
                state.back();
            }
            Err(error) => {
                count(&error);
                return state.leave(&error);
            }
        }
    }
    let looks = client.opened().into_iter().map(async |lane: Lane| {
        if let Err(error) = check(client, &lane).await
            && lane.leave()
        {
            count(&error);
            state.leave(&error);
        }
    });
    join_all(looks).await;
}

async fn check(client: &RedisClient, lane: &Lane) -> Result<(), RedisError> {
    let mut connection = lane.connection.clone();
    connection.set_response_timeout(CHECK_TIMEOUT);
    let server = Server::ask(&mut connection).await?;
    if client.state().check_server(&server) && server.named.is_none() {
        server.name_again().exec_async(&mut connection).await?;
    }
    Ok(())
}
