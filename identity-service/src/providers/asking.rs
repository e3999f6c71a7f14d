//! Asking a provider, once for all who want the same: the lease that keeps other instances from asking too, the call, and
//! keeping its answer.

use std::time::Duration;

use migrations::sealed::columns::ENRICHMENTS;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    calling::{ProviderCall, unavailable},
    exchange,
    outcome::{Answer, Failure, Found, Kept},
    single_flight::SingleFlight,
    tools::Tools,
    uid2::Refresh,
};
use crate::{
    clock,
    error::Result as CoreResult,
    storage::{
        postgres::enrichments::{self, Asked, EnrichmentRow, Holder, NewAnswer},
        retry_lost,
    },
};

/// Time for which an opt-out is believed: as long as anybody is known.
const OPT_OUT: time::Duration = time::Duration::days(400);
/// Time after which an ID that could not be refreshed is tried again.
const RETRY_REFRESH: time::Duration = time::Duration::minutes(5);
/// Time between two looks at what another instance is asking for.
const LOOK: Duration = Duration::from_millis(25);
/// Time that a lease outlives the call.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What is asked, and of whom.
pub struct Question {
    /// The call of the provider that answers it.
    pub call: ProviderCall,
    /// The place of the answer.
    pub asked: Asked,
    /// The holder of the ID.
    pub holder: Holder,
}

/// True where an answer that is kept counts at `now`.
pub fn is_live(row: &EnrichmentRow, now: OffsetDateTime) -> bool {
    row.outcome.is_some() && row.expires_at.is_some_and(|end| end > now)
}

/// An answer as its row has it.
pub fn kept(row: &EnrichmentRow) -> Kept {
    let at = |time: Option<OffsetDateTime>| time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Kept {
        value: row.value.clone(),
        is_opt_out: row.outcome.as_deref() == Some("opt_out"),
        attributes: row.attributes.clone(),
        collected_at: at(row.collected_at),
        expires_at: at(row.expires_at),
        kept_until: at(row.kept_until),
    }
}

/// Questions that are being asked by this process.
pub type Flights = SingleFlight<Result<Kept, Failure>>;

/// Asks once for all of this process who ask the same, until the end of the call's time; the second value tells that
/// another has asked. An answer that comes later is kept all the same.
pub async fn ask_once(flights: &Flights, tools: &Tools, question: Question) -> Result<(Kept, bool), Failure> {
    use sha2::{Digest, Sha256};
    let Asked { org, provider, inputs } = &question.asked;
    let asked = [org.as_bytes().as_slice(), provider.as_bytes(), inputs].concat();
    let (tools, until) = (tools.clone(), question.call.until);
    let joined = flights.join(Sha256::digest(asked).into(), move || ask(tools, question));
    let (kept, is_shared) = timeout_at(until, joined).await.map_err(|_| Failure::Timeout)?;
    Ok((kept.ok_or(Failure::Unavailable)??, is_shared))
}

/// Asks, or waits for another instance that does.
async fn ask(tools: Tools, question: Question) -> Result<Kept, Failure> {
    let row = match lease(&tools, &question).await? {
        Leased::Ours(row) => row,
        Leased::Answered(kept) => return Ok(kept),
    };
    let now = clock::now();
    let refresh = row.sealed.as_deref().and_then(|sealed| {
        let place = ENRICHMENTS.place(question.asked.org, row.id);
        Refresh::parse(&tools.keys.open(place, sealed).ok()?, now)
    });
    let result = match question.call.make(&tools, refresh.as_ref(), now).await.answer {
        Ok(answer) => keep(&tools, &question, row.id, answer, now).await,
        Err(failure) => Err(failure),
    };
    let Err(failure) = result else { return result };
    let org = question.asked.org;
    let released = retry_lost!({ enrichments::release(&mut *tools.connection().await?, org, row.id).await });
    if let Err(error) = released {
        serve::warn_on_change!(WARN, %error, "a lease was not given back; it ends by itself");
    }
    // An ID that could not be refreshed is good until it ends.
    let old = kept(&row);
    if old.value.is_some() && old.kept_until > now && failure != Failure::Erased {
        return Ok(Kept { expires_at: old.kept_until.min(now + RETRY_REFRESH), ..old });
    }
    Err(failure)
}

enum Leased {
    Ours(EnrichmentRow),
    Answered(Kept),
}

/// Takes the lease, or waits for what comes of another's.
async fn lease(tools: &Tools, question: &Question) -> Result<Leased, Failure> {
    let (asked, canonical) = (question.asked, question.holder.canonical);
    loop {
        let now = clock::now();
        let until = now + question.call.plan.timeout + LEASE_MARGIN;
        let claimed: CoreResult<_> = retry_lost!({
            let mut connection = tools.connection().await?;
            match enrichments::claim(&mut connection, asked, canonical, now, until).await? {
                Some(row) => Ok((true, Some(row))),
                None => Ok((false, enrichments::find(&mut connection, asked, &question.holder).await?)),
            }
        });
        match claimed.map_err(unavailable)? {
            (true, Some(row)) => return Ok(Leased::Ours(row)),
            (_, Some(row)) if is_live(&row, now) => return Ok(Leased::Answered(kept(&row))),
            (_, Some(_)) => {}
            (_, None) => return Err(Failure::Erased),
        }
        if Instant::now() + LOOK >= question.call.until {
            return Err(Failure::Timeout);
        }
        sleep(LOOK).await;
    }
}

/// Keeps an answer.
async fn keep(
    tools: &Tools,
    question: &Question,
    row: Uuid,
    answer: Answer,
    now: OffsetDateTime,
) -> Result<Kept, Failure> {
    let org = question.asked.org;
    let none_until = exchange::none_until(&question.call.plan, now);
    let (outcome, found) = match answer {
        Answer::Found(found) => ("found", Some(found)),
        Answer::None => ("none", None),
        Answer::OptOut => ("opt_out", None),
    };
    let is_opt_out = outcome == "opt_out";
    let end = if is_opt_out { now + OPT_OUT } else { none_until };
    let found = found.unwrap_or_else(|| Found {
        value: String::new(),
        attributes: None,
        expires_at: end,
        kept_until: end,
        refresh: None,
    });
    let value = (outcome == "found").then_some(found.value.as_str());
    let sealed: Option<Zeroizing<Vec<u8>>> = found.refresh;
    let kept: CoreResult<bool> = retry_lost!({
        let mut connection = tools.connection().await?;
        let sealed = match &sealed {
            Some(plain) => {
                let place = ENRICHMENTS.place(org, row);
                Some(tools.keys.seal_counted(&mut connection, place, plain).await.map_err(sealing)?)
            }
            None => None,
        };
        let answer = NewAnswer {
            outcome,
            value,
            attributes: found.attributes.as_ref(),
            collected_at: now,
            expires_at: found.expires_at,
            kept_until: found.kept_until,
            sealed: sealed.as_deref(),
        };
        enrichments::keep(&mut connection, org, row, &answer).await
    });
    if !kept.map_err(unavailable)? {
        return Err(Failure::Erased);
    }
    Ok(Kept {
        value: value.map(str::to_owned),
        is_opt_out,
        attributes: found.attributes,
        collected_at: now,
        expires_at: found.expires_at,
        kept_until: found.kept_until,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn sealing(error: migrations::sealed::CountedError) -> crate::error::Error {
    serve::warn_on_change!(ERROR, %error, "what a vendor gave to refresh an ID with can't be sealed");
    crate::error::Error::refused(proto::v1::ErrorReason::Unavailable)
}
