//! Sealing: credentials and whom they are for, re-encryption with a new key, and whether the keys work.

pub mod audience;
pub mod credentials;
pub mod health;
pub mod reencrypt;

use migrations::sealed::CountedError;

use crate::api::error::{ApiError, Code};

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
