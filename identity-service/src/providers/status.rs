//! The state of a provider, for whoever set it up.

use time::OffsetDateTime;

use super::{gates::State, tools::Tools};
use crate::{
    error::Result,
    settings::StoredProvider,
    storage::{
        postgres::provider_states::{self, ProviderName, ProviderState},
        retry_lost,
    },
};

/// The state of a provider.
#[derive(Debug)]
pub struct Status {
    /// Time until which it is not called, as it has asked for; none where it has not, or that is over.
    pub backoff_until: Option<OffsetDateTime>,
    /// Time at which it refused the credentials; none where they have changed since.
    pub refused_at: Option<OffsetDateTime>,
    /// What came of its calls.
    pub calls: ProviderState,
    /// State of its breaker in this process.
    pub breaker: State,
}

impl Tools {
    /// Tells the state of a provider; `stored` is what is enabled of it, where it is.
    pub async fn status(
        &self,
        name: &ProviderName,
        stored: Option<&StoredProvider>,
        now: OffsetDateTime,
    ) -> Result<Status> {
        let calls = retry_lost!({ provider_states::find(&mut *self.connection().await?, name).await })?;
        let is_refused =
            calls.refused_version.is_some() && calls.refused_version == stored.map(|stored| stored.version);
        Ok(Status {
            backoff_until: calls.backoff_until.filter(|until| *until > now),
            refused_at: calls.refused_at.filter(|_| is_refused),
            breaker: stored.map_or(State::Closed, |stored| self.gates.of(stored.id).state()),
            calls,
        })
    }
}
