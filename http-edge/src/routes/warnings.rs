//! Warnings of an answer: members of events that don't count, which costs those events nothing else.

use std::borrow::Cow;

use proto::v1::{RefusalReason, Resolution, WarningCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::event::{Event, LeftOut};

/// Member of an event that does not count, with the event's place in the batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct Warning {
    /// Place of the event in the batch, from 0.
    index: usize,
    /// `MEMBER_LEFT_OUT`, `PLACEHOLDER`, `INVALID_PROOF` or `CONSENT_NOT_UNDERSTOOD`.
    code: &'static str,
    /// Name of the member, and what is wrong with it.
    message: String,
    #[serde(skip)]
    member: Cow<'static, str>,
}

/// Names of identifiers as the core has them and as an event does. The cookie is none of its members.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("anonymous_id", "anonymousId"),
    ("user_id", "userId"),
    ("user_hash", "context.userHash"),
    ("identity_token", "context.identityToken"),
    ("link_token", "_dfl"),
];

impl Warning {
    fn new(index: usize, code: WarningCode, member: impl Into<Cow<'static, str>>, why: &str) -> Self {
        let (name, member) = (code.as_str_name(), member.into());
        let code = name.strip_prefix("WARNING_CODE_").unwrap_or(name);
        Self { index, code, message: format!("{member} {why}"), member }
    }

    fn of_core(index: usize, code: WarningCode, member: impl Into<Cow<'static, str>>) -> Self {
        let why = match code {
            WarningCode::Unspecified | WarningCode::MemberLeftOut => "can't be used",
            WarningCode::Placeholder => "is a placeholder",
            WarningCode::InvalidProof => "does not verify, or has expired",
            WarningCode::ConsentNotUnderstood => "holds nothing that is known; until another comes it denies",
        };
        Self::new(index, code, member, why)
    }
}

/// Takes out of `events` what was left out of them.
pub fn of_events(events: &mut [(usize, &str, Event<'_>)]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, _, event) in events {
        let left_out = std::mem::take(&mut event.left_out).into_iter();
        warnings
            .extend(left_out.map(|left: LeftOut| Warning::new(*index, left.code(), left.member, left.why)));
    }
    warnings
}

/// Adds what the core says of the events at `indices`, and of the consent of the one at `consent_of`.
pub fn add(
    warnings: &mut Vec<Warning>,
    resolution: &Resolution,
    indices: &[usize],
    consent_of: Option<usize>,
) {
    for refusal in &resolution.refusals {
        let code = match refusal.reason() {
            RefusalReason::Junk => WarningCode::Placeholder,
            RefusalReason::InvalidProof => WarningCode::InvalidProof,
            _ => continue,
        };
        if let Some((_, member)) = IDENTIFIERS.iter().find(|(name, _)| *name == refusal.identifier) {
            warnings.extend(indices.iter().map(|index| Warning::of_core(*index, code, *member)));
        }
    }
    for warning in &resolution.warnings {
        let of = |index: &usize| Warning::of_core(*index, warning.code(), warning.member.clone());
        let is_consent = warning.code() == WarningCode::ConsentNotUnderstood;
        let about = if is_consent { consent_of.as_slice() } else { indices };
        warnings.extend(about.iter().map(of));
    }
}

/// The warnings of events that were taken, in order, each once.
pub fn of_taken(mut warnings: Vec<Warning>, is_refused: impl Fn(usize) -> bool) -> Vec<Warning> {
    warnings.retain(|warning| !is_refused(warning.index));
    // Stable: what the edge says of a member comes before what the core does.
    warnings.sort_by(|a, b| (a.index, a.code, &a.member).cmp(&(b.index, b.code, &b.member)));
    warnings.dedup_by(|b, a| (a.index, a.code, &a.member) == (b.index, b.code, &b.member));
    warnings
}
