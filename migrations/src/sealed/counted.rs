//! Counting the values that each key has sealed: with random nonces of 96 bits a key is good for 2^32 (NIST
//! SP 800-38D, 8.3).

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Binary},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{KeyId, Place, SealError, SealKeys};

/// Most values that a key seals: nine tenths of 2^32, as OpenBao's barrier has it.
pub const MOST_SEALINGS: i64 = 3_865_470_566;
/// Count from which on it is time to rotate the key.
const ROTATE_FROM: i64 = 1 << 31;

/// Adds to a key's count, and holds it until the end of the transaction.
const COUNT: &str = "INSERT INTO seal_counts AS known (key_id, times) VALUES ($1, $2) \
    ON CONFLICT (key_id) DO UPDATE SET times = known.times + excluded.times RETURNING times";

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    times: i64,
}

/// Reason for which a value was not sealed, or not counted.
#[derive(Debug, thiserror::Error)]
pub enum CountedError {
    /// The key has sealed [`MOST_SEALINGS`] values.
    #[error("the key has sealed as often as is safe: it has to be rotated")]
    Exhausted,
    /// The value can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The count can't be stored.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

impl SealKeys {
    /// Seals `plain` for `place`, and counts it. To be called in the transaction that stores the value,
    /// before it changes any settings: whoever changes them holds their version, which those who hold the
    /// count wait for.
    pub async fn seal_counted(
        &self,
        connection: &mut AsyncPgConnection,
        place: Place<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>, CountedError> {
        count(connection, self.current().id(), 1).await?;
        Ok(self.seal(place, plain)?)
    }
}

/// Counts that `key` seals so many values in this transaction. Refused where that is more than it may: then
/// the transaction is to be rolled back.
pub async fn count(connection: &mut AsyncPgConnection, key: KeyId, times: i64) -> Result<(), CountedError> {
    let counted = sql_query(COUNT).bind::<Binary, _>(key.as_slice()).bind::<BigInt, _>(times);
    let Counted { times } = counted.get_result(connection).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    metrics::gauge!("datafly_key_seals").set(times as f64);
    let key_id = hex::encode(key);
    if times > MOST_SEALINGS {
        tracing::error!(key_id, times, "the encryption key seals no more: rotate it");
        return Err(CountedError::Exhausted);
    }
    if times >= ROTATE_FROM {
        tracing::warn!(key_id, times, "the encryption key has sealed often: rotate it");
    }
    Ok(())
}
