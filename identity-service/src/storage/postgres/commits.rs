//! Finding out what became of a transaction whose COMMIT got no answer. To repeat it blindly would count an attempt
//! twice, take a state that it has used itself for somebody else's, or undo an un-merge; to give it up would tell a
//! visitor that what is stored is not. PostgreSQL knows, by the transaction's number.

use std::time::Duration;

use diesel::{
    QueryableByName,
    sql_types::{Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::pool::PgPool;

use crate::error::Result;
use migrations::prepared::Prepared;

/// Most looks: a session that was ended while it commits comes to the end of that first.
const MAX_LOOKS: u32 = 50;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(QueryableByName)]
struct Transaction {
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

/// The number of the transaction that the connection is in.
pub async fn number(connection: &mut AsyncPgConnection) -> Result<String> {
    let asked = Prepared(diesel::sql_query("SELECT pg_current_xact_id()::text AS text"));
    Ok(asked.get_result::<Transaction>(connection).await?.text.unwrap_or_default())
}

/// Says whether the transaction of that number, on a connection of `generation`, was committed; none where nobody can
/// know: another server has answered since, or the same one after a crash, which gives numbers anew.
pub async fn was_committed(postgres: &PgPool, generation: u64, number: &str) -> Option<bool> {
    for _ in 0..MAX_LOOKS {
        // A new connection, which finds out whether the server is the one that it was.
        if let Ok(mut connection) = postgres.open().await {
            if connection.generation() != generation {
                return None;
            }
            let asked = diesel::sql_query("SELECT pg_xact_status($1::xid8) AS text").bind::<Text, _>(number);
            match asked.get_result::<Transaction>(&mut *connection).await.ok().and_then(|found| found.text) {
                Some(status) if status == "committed" => return Some(true),
                Some(status) if status == "aborted" => return Some(false),
                _ => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}
