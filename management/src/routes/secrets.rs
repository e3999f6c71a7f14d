//! Secrets that settings of an organisation name, as `secret:cdp_api_token`. Written, never read back, and sent to
//! their own hosts alone.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, PgAnyJsonExpressionMethods, QueryDsl, Queryable, Selectable,
    SelectableHelper, delete,
    dsl::{exists, now, select},
    insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    schema::{custom_providers, secrets},
    sealed::{SealKeys, audience::BoundSecret, columns},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serve::origin::{bare_origin, host_of};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Problem, Result},
        fields::Fields,
        limit::limit,
        member::Member,
        org_lock::lock_org,
        page::{Page, Paged},
        permission::Permission,
        query::{IfMatch, Named, Query},
        versioned::Versioned,
    },
    crypto::{audience, credentials},
    state::Management,
};

/// Most secrets of one organisation.
const MAX_SECRETS: i64 = 1000;
/// Most hosts of one secret.
const MAX_HOSTS: usize = 20;

/// Input with the value of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretInput {
    /// Value of 1 to 8,192 bytes, without control characters.
    #[schema(value_type = String, format = Password, min_length = 1, max_length = 8192)]
    value: SecretString,
    /// Hosts that it may be sent to, each `host[:port]`, https implied. Absent: those that it has. A secret without
    /// any is bound to the host of the first custom provider that an owner or admin saves with it; null, it begins
    /// so anew.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 20)]
    hosts: Member<Vec<String>>,
}

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    name: String,
    /// Always true: there is a value.
    configured: bool,
    /// Hosts that it may be sent to. Null: it is not bound yet, or is sealed with a key that is not configured.
    hosts: Option<Vec<String>>,
    /// Version of the record, for `If-Match`.
    version: i32,
    /// Time when its value was given.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Row of a secret, with the sealed value.
#[derive(Queryable, Selectable)]
#[diesel(table_name = secrets, check_for_backend(diesel::pg::Pg))]
struct SecretRow {
    id: Uuid,
    org_id: Uuid,
    name: String,
    sealed: Vec<u8>,
    version: i32,
    updated_at: OffsetDateTime,
}

impl SecretRow {
    /// Hosts that it is bound to; none where it is not, or does not open.
    fn hosts(&self, keys: &SealKeys) -> Vec<String> {
        let opened = keys.open(columns::SECRETS.place(self.org_id, self.id), &self.sealed).ok();
        opened.and_then(|plain| BoundSecret::parse(&plain)).map(|secret| secret.hosts).unwrap_or_default()
    }

    fn shown(self, keys: &SealKeys) -> SecretView {
        let hosts = Some(self.hosts(keys)).filter(|hosts| !hosts.is_empty());
        let Self { name, version, updated_at, .. } = self;
        SecretView { name, configured: true, hosts, version, updated_at }
    }
}

/// A name in a path: `[a-z0-9_-]{1,64}`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(String);

impl TryFrom<String> for SecretName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_name = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
        if is_name { Ok(Self(text)) } else { Err("not a name of a secret") }
    }
}

/// Lists secrets by name, without their values.
#[utoipa::path(get, path = "/v1/admin/secrets", tag = "secrets", params(Page),
    responses((status = 200, body = Paged<SecretView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<SecretView>>> {
    let mut query = secrets::table
        .filter(secrets::org_id.eq(caller.org_id))
        .order(secrets::name)
        .limit(page.rows())
        .select(SecretRow::as_select())
        .into_boxed();
    if let Some(after) = page.after::<String>()? {
        query = query.filter(secrets::name.gt(after));
    }
    let mut connection = state.connection().await?;
    let found = query.load(&mut **connection).await?;
    let page = page.of(found, |row: &SecretRow| row.name.clone());
    Ok(Json(page.map(|row| row.shown(&state.keys))))
}

/// Shows that there is a secret.
#[utoipa::path(get, path = "/v1/admin/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 200, body = SecretView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Named(name): Named<SecretName>,
) -> Result<Versioned<SecretView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, &name.0).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.shown(&state.keys)))
}

/// Gives a secret a value, which is sealed, and never told again.
#[utoipa::path(put, path = "/v1/admin/secrets/{name}", tag = "secrets", request_body = SecretInput,
    params(("name" = String, Path, description = "`[a-z0-9_-]{1,64}`; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = SecretView), (status = 201, body = SecretView),
        (status = 409, description = "The version is not the newest, or there are 1,000 secrets.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Named(SecretName(name)): Named<SecretName>,
    seen: IfMatch,
    Body(SecretInput { value, hosts }): Body<SecretInput>,
) -> Result<Versioned<SecretView>> {
    let mut wrong = Fields::default();
    credentials::check(&mut wrong, "value", &value);
    let hosts = checked_hosts(&mut wrong, hosts);
    wrong.done()?;
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            lock_org(connection, org).await?;
            let before = one(connection, org, &name).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if before.is_none() {
                let own = secrets::table.filter(secrets::org_id.eq(org)).count();
                limit(own.get_result(connection).await?, MAX_SECRETS)?;
            }
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let old_hosts = before.as_ref().map(|before| before.hosts(&state.keys)).unwrap_or_default();
            let mut hosts = hosts.or(Some(old_hosts.clone())).unwrap_or_default();
            if hosts.is_empty() {
                // Of before secrets had hosts: providers that have it go on.
                hosts = audience::hosts_of_users(connection, org, &name).await?;
            }
            let changes = hosts_changed(&old_hosts, &hosts);
            let secret = BoundSecret { hosts, value };
            let place = columns::SECRETS.place(org, id);
            let sealed = state.keys.seal_counted(connection, place, &secret.to_plain()).await?;
            let (status, after) = if before.is_some() {
                (StatusCode::OK, store(connection, org, id, sealed).await?)
            } else {
                let values = (
                    secrets::id.eq(id),
                    secrets::org_id.eq(org),
                    secrets::name.eq(&name),
                    secrets::sealed.eq(sealed),
                );
                let made = insert_into(secrets::table).values(values).returning(SecretRow::as_returning());
                (StatusCode::CREATED, made.get_result(connection).await?)
            };
            let action = if before.is_some() { "secret.updated" } else { "secret.created" };
            let change = Change { action, resource: "secret", id: &name };
            change.note(connection, &caller, changes).await?;
            Ok(Versioned(status, after.version, after.shown(&state.keys)))
        })
        .await
}

/// Brings hosts into the form in which they are kept, and notes what is wrong with them.
fn checked_hosts(wrong: &mut Fields, hosts: Member<Vec<String>>) -> Member<Vec<String>> {
    let Member::Given(hosts) = hosts else { return hosts };
    wrong.check((1..=MAX_HOSTS).contains(&hosts.len()), "hosts", format!("must be 1 to {MAX_HOSTS}"));
    let mut kept = BTreeSet::new();
    for (index, host) in hosts.iter().take(MAX_HOSTS).enumerate() {
        let url = (!host.contains("://")).then(|| bare_origin(&format!("https://{host}"))).flatten();
        match url.and_then(|url| host_of(&url)) {
            Some(host) => drop(kept.insert(host)),
            None => wrong.add(format!("hosts[{index}]"), "must be host[:port], without a path or wildcard"),
        }
    }
    Member::Given(kept.into_iter().collect())
}

/// Changes for the audit log; none where the hosts are the same.
fn hosts_changed(old: &[String], new: &[String]) -> Value {
    if old == new { json!({}) } else { json!({"hosts": {"old": old, "new": new}}) }
}

async fn store(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    id: Uuid,
    sealed: Vec<u8>,
) -> Result<SecretRow> {
    let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::id.eq(id));
    let values = (secrets::sealed.eq(sealed), secrets::sealed_at.eq(now));
    Ok(update(own).set(values).returning(SecretRow::as_returning()).get_result(connection).await?)
}

/// Removes a secret that nothing refers to. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 204), (status = 409, description = "A custom provider refers to it.")))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Named(SecretName(name)): Named<SecretName>,
) -> Result<StatusCode> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            lock_org(connection, org).await?;
            let reference = custom_providers::settings
                .retrieve_as_object("authentication")
                .retrieve_as_text("token_secret_ref");
            let users = custom_providers::table
                .filter(custom_providers::org_id.eq(org))
                .filter(reference.eq(format!("secret:{name}")));
            if select(exists(users)).get_result(connection).await? {
                return Err(ApiError::with_message(Code::InUse, "A custom provider refers to this secret."));
            }
            let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::name.eq(&name));
            if delete(own).execute(connection).await? > 0 {
                let change = Change { action: "secret.deleted", resource: "secret", id: &name };
                change.note(connection, &caller, json!({})).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Tells whether the organisation has a secret of that name.
pub async fn is_there(connection: &mut AsyncPgConnection, org: Uuid, name: &str) -> Result<bool> {
    Ok(one(connection, org, name).await?.is_some())
}

/// Has a custom provider at `endpoint` use a secret. One that has no hosts yet is bound: to those of the providers
/// that use it already, else to this one, which an owner or admin may decide. Refused at any other host, with
/// `prefix` before the field. To be called under the organisation's lock, before the provider is stored.
pub async fn use_at(
    keys: &SealKeys,
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    name: &str,
    endpoint: &str,
    prefix: &str,
) -> Result<()> {
    let refused = |message: String| {
        let field = format!("{prefix}authentication.token_secret_ref");
        Err(ApiError::not_for_host(vec![Problem { field, message }]))
    };
    let org = caller.org_id;
    let host = host_of(endpoint).ok_or(Code::Internal)?;
    let row = one(connection, org, name).await?.ok_or(Code::NotFound)?;
    let place = columns::SECRETS.place(org, row.id);
    let opened = credentials::open_value(keys, place, &row.sealed)?;
    let mut secret = BoundSecret::parse(&opened).ok_or(Code::KeyUnavailable)?;
    let (is_bound, mut is_used) = (!secret.hosts.is_empty(), false);
    if !is_bound {
        secret.hosts = audience::hosts_of_users(connection, org, name).await?;
        is_used = !secret.hosts.is_empty();
        if !is_used && !caller.role.may(Permission::DeleteSettings) {
            return refused(
                "is bound to no host yet: an owner or admin saves the first provider with it".into(),
            );
        }
        if !is_used {
            secret.hosts.push(host.clone());
        }
    }
    if !secret.hosts.contains(&host) {
        let hosts = secret.hosts.join(", ");
        return refused(format!("was given for {hosts}: for {host} as well, PUT its value and hosts anew"));
    }
    if !is_bound {
        if is_used {
            audience::note_bound(place.table, row.id, &secret.hosts.join(" "));
        }
        let changes = hosts_changed(&[], &secret.hosts);
        let sealed = keys.seal_counted(connection, place, &secret.to_plain()).await?;
        store(connection, org, row.id, sealed).await?;
        let change = Change { action: "secret.updated", resource: "secret", id: name };
        change.note(connection, caller, changes).await?;
    }
    Ok(())
}

async fn one(connection: &mut AsyncPgConnection, org: Uuid, name: &str) -> Result<Option<SecretRow>> {
    let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::name.eq(name));
    Ok(own.select(SecretRow::as_select()).first(connection).await.optional()?)
}
