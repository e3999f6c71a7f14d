//! What is sealed: credentials, their sealing with a new key, and whether the keys work.

pub mod credentials;
pub mod health;
pub mod reencrypt;

use diesel_async::AsyncPgConnection;
use migrations::sealed::{CountedError, Place};

use crate::{
    api::error::{ApiError, Code, Result},
    state::Management,
};

impl Management {
    /// Seals `plain` for `place` and counts it. To be called in the transaction that stores it, before that changes any
    /// settings (see [`migrations::sealed::SealKeys::seal_counted`]).
    pub async fn seal(
        &self,
        connection: &mut AsyncPgConnection,
        place: Place<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        Ok(self.keys.seal_counted(connection, place, plain).await?)
    }
}

impl From<CountedError> for ApiError {
    fn from(error: CountedError) -> Self {
        match error {
            // It was logged where it is counted.
            CountedError::Exhausted => Code::KeyExhausted.into(),
            CountedError::Query(error) => error.into(),
            CountedError::Seal(error) => {
                tracing::error!(%error, "a value can't be sealed");
                Code::Internal.into()
            }
        }
    }
}
