//! Answers of providers, by the values that they were asked with, and the leases of who asks them.

use diesel::{
    prelude::*,
    sql_types::{Binary, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::enrichments;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::Owner;
use crate::error::Result;
use migrations::prepared::Prepared;

/// The provider and the values that it is asked with.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The organisation whose visitor it is.
    pub org: Uuid,
    /// ID of the provider's settings.
    pub provider: Uuid,
    /// Digest of the provider's settings and of the request.
    pub inputs: [u8; 32],
}

/// An answer that is kept, or the lease of who asks for it.
#[derive(Debug, Clone, QueryableByName)]
pub struct EnrichmentRow {
    /// ID of the row, to which what is sealed is bound.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// End of the lease of who asks.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub leased_until: Option<OffsetDateTime>,
    /// `found`, `none` or `opt_out`; absent until there is an answer.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// The ID that was found.
    #[diesel(sql_type = Nullable<Text>)]
    pub value: Option<String>,
    /// Attributes that came with it.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub attributes: Option<Value>,
    /// Time of the answer.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub collected_at: Option<OffsetDateTime>,
    /// Time from which on the provider is asked again.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<OffsetDateTime>,
    /// Time until which the value may be used where the provider can't be asked.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub kept_until: Option<OffsetDateTime>,
    /// What the provider gave to refresh the value with, sealed.
    #[diesel(sql_type = Nullable<Binary>)]
    pub sealed: Option<Vec<u8>>,
    /// True where the owner that was asked about has the value already.
    #[diesel(sql_type = Bool)]
    pub is_stored: bool,
}

/// The place of a vendor ID that an answer is compared with.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The canonical identity.
    pub canonical: Uuid,
    /// The owner of the ID.
    pub owner: Owner,
    /// The field of the identity.
    pub field: String,
}

/// Finds what is kept; none where nobody has asked for it yet.
pub async fn find(
    connection: &mut AsyncPgConnection,
    asked: Asked,
    holder: &Holder,
) -> Result<Option<EnrichmentRow>> {
    let sql = "SELECT e.id, e.leased_until, e.outcome, e.value, e.attributes, e.collected_at, e.expires_at, e.kept_until, e.sealed, \
         EXISTS (SELECT FROM vendor_ids v WHERE v.org_id = $1 AND v.canonical_id = $4 AND v.field = $5 \
             AND v.owner_kind = $6 AND v.owner = $7 AND v.value = e.value AND v.expires_at = e.kept_until) AS is_stored \
         FROM enrichments e WHERE e.org_id = $1 AND e.provider_id = $2 AND e.inputs = $3";
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(asked.org)
        .bind::<SqlUuid, _>(asked.provider)
        .bind::<Binary, _>(asked.inputs.as_slice())
        .bind::<SqlUuid, _>(holder.canonical)
        .bind::<Text, _>(&holder.field)
        .bind::<SmallInt, _>(holder.owner.kind())
        .bind::<Text, _>(holder.owner.text());
    Ok(Prepared(query).get_result(connection).await.optional()?)
}

/// Takes the lease on asking until `until`, for a person who is still there. None where another has it, or there is a
/// live answer, or the person is gone.
pub async fn claim(
    connection: &mut AsyncPgConnection,
    asked: Asked,
    canonical: Uuid,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Option<EnrichmentRow>> {
    let sql = "INSERT INTO enrichments AS old (id, org_id, provider_id, inputs, canonical_id, leased_until) \
         SELECT $1, c.org_id, $3, $4, c.id, $6 FROM canonicals c WHERE c.org_id = $2 AND c.id = $5 \
         ON CONFLICT (org_id, provider_id, inputs) DO UPDATE SET leased_until = excluded.leased_until \
             WHERE (old.leased_until IS NULL OR old.leased_until <= $7) \
                 AND (old.expires_at IS NULL OR old.expires_at <= $7) \
         RETURNING id, leased_until, outcome, value, attributes, collected_at, expires_at, kept_until, sealed, false AS is_stored";
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(Uuid::now_v7())
        .bind::<SqlUuid, _>(asked.org)
        .bind::<SqlUuid, _>(asked.provider)
        .bind::<Binary, _>(asked.inputs.as_slice())
        .bind::<SqlUuid, _>(canonical)
        .bind::<Timestamptz, _>(until)
        .bind::<Timestamptz, _>(now);
    Ok(Prepared(query).get_result(connection).await.optional()?)
}

/// An answer that is to be kept.
#[derive(Debug)]
pub struct NewAnswer<'a> {
    /// `found`, `none` or `opt_out`.
    pub outcome: &'static str,
    /// The ID that was found.
    pub value: Option<&'a str>,
    /// Attributes of the person.
    pub attributes: Option<&'a Value>,
    /// Time of the answer.
    pub collected_at: OffsetDateTime,
    /// Time from which on the provider is asked again.
    pub expires_at: OffsetDateTime,
    /// Time until which the value may be used.
    pub kept_until: OffsetDateTime,
    /// What the provider gave to refresh the value with, sealed.
    pub sealed: Option<&'a [u8]>,
}

/// Keeps an answer and ends the lease. False where the person was erased meanwhile, and nothing is kept.
pub async fn keep(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    id: Uuid,
    answer: &NewAnswer<'_>,
) -> Result<bool> {
    let sql = "UPDATE enrichments SET leased_until = NULL, outcome = $3, value = $4, attributes = $5, collected_at = $6, \
         expires_at = $7, kept_until = $8, sealed = $9 WHERE org_id = $1 AND id = $2";
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(org)
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(answer.outcome)
        .bind::<Nullable<Text>, _>(answer.value)
        .bind::<Nullable<Jsonb>, _>(answer.attributes)
        .bind::<Timestamptz, _>(answer.collected_at)
        .bind::<Timestamptz, _>(answer.expires_at)
        .bind::<Timestamptz, _>(answer.kept_until)
        .bind::<Nullable<Binary>, _>(answer.sealed);
    Ok(Prepared(query).execute(connection).await? > 0)
}

/// Ends the lease without an answer.
pub async fn release(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    diesel::update(enrichments::table.filter(enrichments::org_id.eq(org)).filter(enrichments::id.eq(id)))
        .set(enrichments::leased_until.eq(None::<OffsetDateTime>))
        .execute(connection)
        .await?;
    Ok(())
}
