//! Digests of emails and phones.

use diesel::{
    prelude::*,
    sql_types::{Array, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::pii_digests;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
    pii::contacts::{Digests, NewContacts},
};
use migrations::prepared::Prepared;

/// An email or a phone of an identifier, as digests.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = pii_digests, check_for_backend(diesel::pg::Pg))]
pub struct DigestRow {
    kind: i16,
    /// Value of the identifier that the contact belongs to.
    pub value: String,
    /// The kind of contact, `email` or `phone`.
    pub what: String,
    /// SHA-256 of the trimmed, lower-case text.
    pub lower_sha256: Vec<u8>,
    /// SHA-1 of the trimmed, lower-case text.
    pub lower_sha1: Option<Vec<u8>>,
    /// MD5 of the trimmed, lower-case text.
    pub lower_md5: Option<Vec<u8>>,
    /// SHA-256 of UID2's normal form.
    pub uid2_sha256: Option<Vec<u8>>,
    /// SHA-1 of UID2's normal form.
    pub uid2_sha1: Option<Vec<u8>>,
    /// MD5 of UID2's normal form.
    pub uid2_md5: Option<Vec<u8>>,
    /// SHA-256, SHA-1 and MD5, in a row, of a phone's digits.
    pub digits: Option<Vec<u8>>,
    /// SHA-256, SHA-1 and MD5, in a row, of the ten digits of a number of North America.
    pub ten: Option<Vec<u8>>,
    /// True where the contact was vouched for.
    pub verified: bool,
    /// The time at which it came last.
    pub seen_at: OffsetDateTime,
}

impl DigestRow {
    /// Kind of the identifier.
    pub fn kind(&self) -> Kind {
        Kind::from_number(self.kind)
    }
}

/// Finds the contacts stored for these identifiers.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: impl Iterator<Item = &Identifier>,
) -> Result<Vec<DigestRow>> {
    let ids: Vec<&Identifier> = ids.collect();
    // Values are compared together with their kinds below; few have the same value as another kind.
    let values: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
    let rows: Vec<DigestRow> = pii_digests::table
        .filter(pii_digests::org_id.eq(org))
        .filter(pii_digests::kind.eq_any([Kind::AnonymousId.number(), Kind::UserId.number()]))
        .filter(pii_digests::value.eq_any(values))
        .order((pii_digests::kind, pii_digests::value, pii_digests::what))
        .select(DigestRow::as_select())
        .load(connection)
        .await?;
    let is_asked = |row: &DigestRow| ids.iter().any(|id| id.kind == row.kind() && id.value == row.value);
    Ok(rows.into_iter().filter(is_asked).collect())
}

/// Removes the contacts of these identifiers.
pub async fn remove(connection: &mut AsyncPgConnection, org: Uuid, ids: &[&Identifier]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    Prepared(
        diesel::sql_query(
            "DELETE FROM pii_digests own USING unnest($2, $3) AS gone (kind, value) \
             WHERE own.org_id = $1 AND own.kind = gone.kind AND own.value = gone.value",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(ids.iter().map(|id| id.kind.number()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(ids.iter().map(|id| id.value.as_str()).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores contacts, each in the place of the identifier's earlier one, but a claimed one in the place of none that was
/// vouched for. More digests of the same address than its SHA-256, and that it was vouched for, stay known. An
/// identifier that nobody has any more is left out.
pub async fn store(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    new: &NewContacts,
    now: OffsetDateTime,
) -> Result<()> {
    let ids = || new.keys();
    let lower = || new.values().map(|one| one.contact.lower);
    let uid2 = || new.values().map(|one| one.contact.uid2);
    let sha1 = |digests: Digests| digests.sha1.map(Vec::from);
    let md5 = |digests: Digests| digests.md5.map(Vec::from);
    let all = |digests: Option<Digests>| digests.and_then(Digests::in_a_row);
    Prepared(
        diesel::sql_query(
            "INSERT INTO pii_digests AS old (org_id, kind, value, what, lower_sha256, lower_sha1, lower_md5, \
                 uid2_sha256, uid2_sha1, uid2_md5, digits, ten, verified, seen_at) \
             SELECT $1, new.*, $14 \
             FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS new (kind, value, what, \
                 lower_sha256, lower_sha1, lower_md5, uid2_sha256, uid2_sha1, uid2_md5, digits, ten, verified) \
             JOIN links l ON l.org_id = $1 AND l.kind = new.kind AND l.value = new.value \
             ORDER BY new.kind, new.value FOR KEY SHARE OF l \
             ON CONFLICT (org_id, kind, value, what) DO UPDATE SET \
                 lower_sha256 = excluded.lower_sha256, \
                 lower_sha1 = COALESCE(excluded.lower_sha1, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.lower_sha1 END), \
                 lower_md5 = COALESCE(excluded.lower_md5, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.lower_md5 END), \
                 uid2_sha256 = COALESCE(excluded.uid2_sha256, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.uid2_sha256 END), \
                 uid2_sha1 = COALESCE(excluded.uid2_sha1, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.uid2_sha1 END), \
                 uid2_md5 = COALESCE(excluded.uid2_md5, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.uid2_md5 END), \
                 digits = COALESCE(excluded.digits, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.digits END), \
                 ten = COALESCE(excluded.ten, \
                     CASE WHEN old.lower_sha256 = excluded.lower_sha256 THEN old.ten END), \
                 verified = excluded.verified \
                     OR old.verified AND old.lower_sha256 = excluded.lower_sha256, \
                 seen_at = excluded.seen_at \
             WHERE excluded.verified OR NOT old.verified OR old.lower_sha256 = excluded.lower_sha256",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(ids().map(|(id, _)| id.kind.number()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(ids().map(|(id, _)| id.value.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(ids().map(|(_, what)| *what).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(lower().map(|own| own.sha256.to_vec()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(lower().map(sha1).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(lower().map(md5).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(uid2().map(|own| Some(own?.sha256.to_vec())).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(uid2().map(|own| own.and_then(sha1)).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(uid2().map(|own| own.and_then(md5)).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(new.values().map(|one| all(one.contact.digits)).collect::<Vec<_>>())
        .bind::<Array<Nullable<Binary>>, _>(new.values().map(|one| all(one.contact.ten)).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(new.values().map(|one| one.verified).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    Ok(())
}
