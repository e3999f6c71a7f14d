//! One call of a provider: whether it wants one now, the exchange, and what came of it, noted for all instances and for
//! whoever asks for the provider's status.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    counters,
    exchange::Exchange,
    gates,
    outcome::{Answer, Failure},
    plan::{Plan, Prepared},
    tools::Tools,
    uid2::Refresh,
    variables::Variables,
};
use crate::{
    clock,
    settings::StoredProvider,
    storage::{
        postgres::provider_states::{self, NewFailure, ProviderName},
        retry_lost,
    },
};

/// A call that is to be made.
pub struct ProviderCall {
    /// The provider as it is stored.
    pub provider: Arc<StoredProvider>,
    /// Its name, for its state.
    pub name: ProviderName,
    /// Its plan.
    pub plan: Plan,
    /// The request.
    pub prepared: Prepared,
    /// What is known of the visitor.
    pub variables: Variables,
    /// The end of the time that there is.
    pub until: Instant,
}

/// What came of a call.
#[derive(Debug)]
pub struct Called {
    /// The answer, or the reason why there is none.
    pub answer: Result<Answer, Failure>,
    /// The HTTP status of the answer, where there was one.
    pub status: Option<u16>,
}

impl ProviderCall {
    /// Calls the provider, unless it has said that it wants no call. `refresh` is what an earlier answer gave to refresh
    /// its ID with.
    pub async fn make(&self, tools: &Tools, refresh: Option<&Refresh>, now: OffsetDateTime) -> Called {
        let place = match self.enter(tools, now).await {
            Ok(place) => place,
            Err(failure) => return Called { answer: Err(failure), status: None },
        };
        let Self { provider, plan, prepared, variables, .. } = self;
        let (egress, keys) = (&tools.egress, &tools.keys);
        let mut exchange = Exchange { egress, keys, provider, plan, variables, prepared, status: None };
        let began = Instant::now();
        let answer = exchange.ask(refresh, self.until.saturating_duration_since(began), now).await;
        let called = Called { answer, status: exchange.status };
        let failure = called.answer.as_ref().err().copied();
        if place.end(failure.is_some_and(Failure::is_away)) {
            counters::left_alone(plan.label);
        }
        let outcome = failure.map_or("answered", Failure::reason);
        counters::called(plan.label, outcome, began.elapsed());
        self.note(tools, failure, called.status).await;
        called
    }

    /// Takes one of the provider's places.
    async fn enter(&self, tools: &Tools, now: OffsetDateTime) -> Result<gates::Call, Failure> {
        let name = &self.name;
        let state = retry_lost!({ provider_states::find(&mut *tools.connection().await?, name).await });
        let state = state.map_err(unavailable)?;
        if state.refused_version == Some(self.provider.version) {
            return Err(if state.last_status == Some(403) {
                Failure::Forbidden
            } else {
                Failure::Credentials
            });
        }
        if let Some(pause) = state.backoff_until.map(|until| until - now).filter(|pause| pause.is_positive())
        {
            return Err(Failure::RateLimited(pause.unsigned_abs()));
        }
        Ok(tools.gates.of(self.provider.id).enter()?)
    }

    async fn note(&self, tools: &Tools, failure: Option<Failure>, status: Option<u16>) {
        let (name, at) = (&self.name, clock::now());
        let noted = retry_lost!({
            let mut connection = tools.connection().await?;
            let Some(failure) = failure else {
                return provider_states::succeeded(&mut connection, name, at).await;
            };
            let backoff_until = match failure {
                Failure::RateLimited(pause) => Some(at + pause),
                _ => None,
            };
            let refused_version = failure.is_refusal().then_some(self.provider.version);
            let reason = failure.reason();
            let failure = NewFailure { reason, status, at, backoff_until, refused_version };
            provider_states::failed(&mut connection, name, failure).await
        });
        if let Err(error) = noted {
            serve::warn_on_change!(WARN, %error, "the state of a provider was not noted");
        }
        let Some(failure) = failure else { return };
        let (source, provider) = (name.source, &name.provider);
        if failure.is_refusal() {
            tracing::error!(
                %source, provider, status,
                "configuration error: the provider refuses the credentials; it is not called until they change"
            );
        } else {
            tracing::warn!(%source, provider, status, reason = failure.reason(), "a provider was skipped");
        }
    }
}

/// What a failed store means for an asker.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub fn unavailable(error: crate::error::Error) -> Failure {
    // What the store said is logged there.
    let _ = error.reason();
    Failure::Unavailable
}
