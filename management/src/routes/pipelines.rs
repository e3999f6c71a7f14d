//! Pipelines: how a source's visitors are treated. A source has exactly one, which is made and removed with
//! it.

use std::collections::{BTreeMap, HashSet};

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::pipelines;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::Result,
        fields::Fields,
        member::{Member, given},
        page::{Page, Paged},
        query::{Id, IfMatch, Query},
        versioned::Versioned,
    },
    state::Management,
};

/// Meanings that the absence of consent signals may have.
const CONSENT_MODES: [&str; 2] = ["explicit", "implicit"];
/// Consent platforms whose codes the core knows.
const PRESETS: [&str; 5] = ["onetrust", "cookiebot", "cookieyes", "trustarc", "segment"];
/// Categories that a code may stand for.
const CATEGORIES: [&str; 5] = ["essential", "functional", "analytics", "marketing", "personalization"];
/// Most codes of one mapping.
const MAX_CODES: usize = 200;
/// Most characters of a code.
const MAX_CODE_CHARS: usize = 64;
/// Highest rate that can be set, in events a second (the column's bound).
const MAX_RATE_PER_SECOND: i32 = 1_000_000;

/// Input about a pipeline. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineInput {
    /// Meaning of absent consent signals: `explicit` denies (GDPR), `implicit` grants (CCPA).
    #[schema(pattern = "^(explicit|implicit)$")]
    consent_mode: String,
    /// Removes stored vendor IDs when consent is withdrawn; otherwise they stay until they expire.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    purge_on_withdrawal: Option<bool>,
    /// Events a second that each key may bring to each core, 1 to 1,000,000. Null: 1,000.
    #[serde(default)]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1_000_000)]
    rate_limit_rps: Member<i32>,
    /// The categories that your consent platform's codes stand for. Null: codes say nothing.
    #[serde(default)]
    #[schema(value_type = Option<ConsentMapping>)]
    consent_mapping: Member<ConsentMapping>,
}

/// Mapping of a consent platform's codes to categories.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentMapping {
    /// Platform whose codes are known: `onetrust`, `cookiebot`, `cookieyes`, `trustarc` or `segment`.
    #[schema(pattern = "^(onetrust|cookiebot|cookieyes|trustarc|segment)$")]
    preset: Option<String>,
    /// Codes of your own, of 1 to 64 characters, which count before the preset's: at most 200, whatever their case,
    /// each `essential`, `functional`, `analytics`, `marketing` or `personalization`.
    #[serde(default)]
    codes: BTreeMap<String, String>,
}

impl ConsentMapping {
    /// Notes what is wrong with it.
    fn check(&self, wrong: &mut Fields) {
        if let Some(preset) = &self.preset {
            wrong.one_of("consent_mapping.preset", preset, &PRESETS);
        }
        let codes = "consent_mapping.codes";
        wrong.check(self.codes.len() <= MAX_CODES, codes, format!("must be at most {MAX_CODES}"));
        let mut known = HashSet::new();
        for (code, category) in &self.codes {
            wrong.text(codes, code, 1, MAX_CODE_CHARS);
            wrong.one_of(&format!("{codes}.{}", code.escape_debug()), category, &CATEGORIES);
            wrong.check(
                known.insert(code.to_lowercase()),
                codes,
                format!("has {code} twice, in another case"),
            );
        }
    }
}

/// A pipeline of a source.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = pipelines, check_for_backend(diesel::pg::Pg))]
pub struct PipelineView {
    id: Uuid,
    /// ID of its source.
    pub(super) source_id: Uuid,
    consent_mode: String,
    purge_on_withdrawal: bool,
    /// Events a second that each key may bring to each core. Null: 1,000.
    rate_limit_rps: Option<i32>,
    /// The categories that codes of a consent platform stand for. Null: codes say nothing.
    #[schema(value_type = Option<ConsentMapping>)]
    consent_mapping: Option<Value>,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Lists pipelines, oldest first.
#[utoipa::path(get, path = "/v1/admin/pipelines", tag = "pipelines", params(Page),
    responses((status = 200, body = Paged<PipelineView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<PipelineView>>> {
    let mut query = pipelines::table
        .filter(pipelines::org_id.eq(caller.org_id))
        .order(pipelines::id)
        .limit(page.rows())
        .select(PipelineView::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(pipelines::id.gt(after));
    }
    let mut connection = state.connection().await?;
    let found = query.load(&mut **connection).await?;
    Ok(Json(page.of(found, |pipeline: &PipelineView| pipeline.id.to_string())))
}

/// Shows a source's pipeline.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}", tag = "pipelines", params(("id" = Uuid, Path)),
    responses((status = 200, body = PipelineView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
) -> Result<Versioned<PipelineView>> {
    let mut connection = state.connection().await?;
    let own = pipelines::table.filter(pipelines::org_id.eq(caller.org_id)).filter(pipelines::id.eq(id));
    let found: PipelineView = own.select(PipelineView::as_select()).first(&mut **connection).await?;
    Ok(Versioned(StatusCode::OK, found.version, found))
}

/// Changes a pipeline's settings. What is left out stays as it is.
#[utoipa::path(put, path = "/v1/admin/pipelines/{id}", tag = "pipelines", request_body = PipelineInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = PipelineView), (status = 409, description = "The version is not the newest.")))]
pub async fn update(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    seen: IfMatch,
    Body(input): Body<PipelineInput>,
) -> Result<Versioned<PipelineView>> {
    let mut wrong = Fields::default();
    wrong.one_of("consent_mode", &input.consent_mode, &CONSENT_MODES);
    let rate_is_bounded = match input.rate_limit_rps {
        Member::Given(rate) => (1..=MAX_RATE_PER_SECOND).contains(&rate),
        Member::Absent | Member::Null => true,
    };
    wrong.check(rate_is_bounded, "rate_limit_rps", format!("must be 1 to {MAX_RATE_PER_SECOND}"));
    let consent_mapping = match &input.consent_mapping {
        Member::Absent => None,
        Member::Null => Some(None),
        Member::Given(mapping) => {
            mapping.check(&mut wrong);
            Some(Some(json!(mapping)))
        }
    };
    wrong.done()?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = locked(connection, caller.org_id, id).await?;
            seen.check(Some(before.version))?;
            let own =
                pipelines::table.filter(pipelines::org_id.eq(caller.org_id)).filter(pipelines::id.eq(id));
            let after: PipelineView = diesel::update(own)
                .set((
                    pipelines::consent_mode.eq(&input.consent_mode),
                    input.purge_on_withdrawal.map(|purge| pipelines::purge_on_withdrawal.eq(purge)),
                    pipelines::rate_limit_rps.eq(input.rate_limit_rps.or(before.rate_limit_rps)),
                    consent_mapping.map(|mapping| pipelines::consent_mapping.eq(mapping)),
                ))
                .returning(PipelineView::as_returning())
                .get_result(connection)
                .await?;
            let change = Change { action: "pipeline.updated", resource: "pipeline", id: &id.to_string() };
            change.record(connection, &caller, Some(&before), Some(&after)).await?;
            Ok(Versioned(StatusCode::OK, after.version, after))
        })
        .await
}

/// Refuses where the organisation has no pipeline of that ID.
pub async fn exists(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    let own = pipelines::table.filter(pipelines::org_id.eq(org)).filter(pipelines::id.eq(id));
    own.select(pipelines::id).first::<Uuid>(connection).await?;
    Ok(())
}

/// Finds the pipeline of that ID, if it is the organisation's. Whoever else changes it, or what belongs to
/// it, waits for the end of the transaction.
pub async fn locked(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<PipelineView> {
    let own = pipelines::table.filter(pipelines::org_id.eq(org)).filter(pipelines::id.eq(id));
    Ok(own.select(PipelineView::as_select()).for_update().first(connection).await?)
}
