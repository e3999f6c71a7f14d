//! A dry run of a provider: the request that it would get for a visitor, and what its answer yields. Nothing is stored of
//! the visitor or the ID; a call that is really made counts as any other.

use std::sync::Arc;

use proto::v1::Subject;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    calling::ProviderCall,
    exchange::Exchange,
    outcome::{Answer, Failure},
    plan::{MAX_ANSWER_BYTES, Plan, Prepared},
    subject::describe,
    tools::Tools,
    variables::Variables,
};
use crate::{
    consent::{ConsentRule, Decision},
    error::Result,
    settings::StoredProvider,
    storage::{Stores, postgres::provider_states::ProviderName},
    vendors::ConsentNeed,
};

/// What is tried, and with whom.
pub struct DryRun {
    /// The organisation whose visitor it is.
    pub org: Uuid,
    /// The provider as it is stored, or would be.
    pub provider: Arc<StoredProvider>,
    /// The rule by which its source reads consent; none where it has no source.
    pub rule: Option<Arc<ConsentRule>>,
    /// The visitor.
    pub subject: Subject,
    /// Variables of the request: the page, the device, the event.
    pub variables: Variables,
    /// How far it goes.
    pub depth: Depth,
    /// Time at which the call came.
    pub began: Instant,
    /// The same by the clock.
    pub now: OffsetDateTime,
}

/// Extent of a dry run.
pub enum Depth {
    /// Shows the request.
    Show,
    /// Shows the request, and reads an answer that somebody has written down.
    Read(String),
    /// Sends the request, for the state of the provider of that name.
    Send(ProviderName),
}

/// What comes of a dry run.
#[derive(Default)]
pub struct Shown {
    /// The request with masks for its credentials; none where there would be none.
    pub request: Option<egress::Request>,
    /// The ID that the answer yields.
    pub id: Option<String>,
    /// The reason for not asking, or for no ID, as `EnrichResponse` lists them; empty where all is well.
    pub reason: &'static str,
    /// The HTTP status of an answer to what was sent.
    pub status: Option<u16>,
}

impl Shown {
    /// Nothing to show, for that reason.
    pub fn nothing(reason: &'static str) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl DryRun {
    /// Tries the provider with the call that `choose` makes of the visitor's variables; none where they are known by
    /// nothing that it takes. One who does not consent to `need` is not asked about.
    pub async fn run(
        self,
        tools: &Tools,
        stores: &Stores,
        need: Option<ConsentNeed>,
        choose: impl FnOnce(&Variables) -> Option<(Plan, Prepared)>,
    ) -> Result<Shown> {
        let Self { org, provider, rule, subject, variables, depth, began, now } = self;
        let described = describe((tools, stores), org, subject, variables).await?;
        let signals = described.consent.signals();
        let decide = |(rule, need): (Arc<ConsentRule>, _)| signals.decide(&need, &rule, now);
        let is_denied = rule.zip(need).is_some_and(|both| decide(both) == Decision::Denied);
        let variables = described.variables;
        let Some((plan, prepared)) = choose(&variables) else {
            return Ok(Shown::nothing(if is_denied { "consent" } else { "no_input" }));
        };
        let (keys, egress) = (&tools.keys, &tools.egress);
        let exchange = Exchange {
            egress,
            keys,
            provider: &provider,
            plan: &plan,
            variables: &variables,
            prepared: &prepared,
            status: None,
        };
        let request = match exchange.masked() {
            Ok(request) => Some(request),
            Err(failure) => return Ok(Shown::nothing(failure.reason())),
        };
        let (answer, status) = match depth {
            Depth::Read(body) if body.len() > MAX_ANSWER_BYTES => (Some(Err(Failure::TooLarge)), None),
            Depth::Read(body) => (Some(exchange.read_written(&body, now)), None),
            Depth::Send(name) if !is_denied => {
                let until = began + plan.timeout;
                let call = ProviderCall { provider, name, plan, prepared, variables, until };
                let tools = tools.clone();
                // Whoever asked may go meanwhile, and what comes of the call is noted all the same.
                let called = tokio::spawn(async move { call.make(&tools, None, now).await }).await?;
                (Some(called.answer), called.status)
            }
            Depth::Show | Depth::Send(_) => (None, None),
        };
        let well = if is_denied { "consent" } else { "" };
        let (id, reason) = match answer {
            None => (None, well),
            Some(Ok(Answer::Found(found))) => (Some(found.value), well),
            Some(Ok(Answer::None)) => (None, "no_id"),
            Some(Ok(Answer::OptOut)) => (None, "opt_out"),
            Some(Err(failure)) => (None, failure.reason()),
        };
        Ok(Shown { request, id, reason, status })
    }
}
