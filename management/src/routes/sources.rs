//! Sources: sites and apps that send events, with their domains, collect hosts and pipeline.

use std::collections::{HashMap, HashSet};

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper, delete, insert_into};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    rows::{self, Pipeline},
    schema::{collect_hosts, pipelines, sources},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::{self, Change},
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::{self, Fields},
        page::{Page, Paged},
        query::{Id, IfMatch, Query},
        versioned::Versioned,
    },
    state::Management,
};

/// Most domains, and most collect hosts, of one source.
const MOST: usize = 100;
/// What a browser is shown (design section 7, Trust).
const BROWSER_IDENTITY: [&str; 2] = ["verified", "claimed"];

/// What is told of a source.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceInput {
    /// For display, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Origins that may call: `host[:port]`, https implied, `http://…` on loopback. None: no browser may.
    #[serde(default)]
    #[schema(max_items = 100)]
    domains: Vec<String>,
    /// Your hosts that point at the edge.
    #[serde(default)]
    #[schema(max_items = 100)]
    collect_hosts: Vec<CollectHost>,
    /// `verified` shows a browser only what is vouched for, `claimed` believes it who it says it is.
    #[serde(default = "verified")]
    #[schema(pattern = "^(verified|claimed)$")]
    browser_identity: String,
    /// Refuses calls without a signature.
    #[serde(default)]
    require_signature: bool,
}

fn verified() -> String {
    "verified".to_owned()
}

/// A host that points at the edge.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectHost {
    /// Scheme and authority, `https://collect.example.com`.
    url: String,
    /// Domain attribute of the `_dfid` cookie: the host, or a domain it is under. Absent: the host alone.
    cookie_domain: Option<String>,
}

/// A source.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
    id: Uuid,
    /// Its pipeline, which is made with it.
    pipeline_id: Uuid,
    name: String,
    domains: Vec<String>,
    collect_hosts: Vec<CollectHost>,
    browser_identity: String,
    require_signature: bool,
    /// For `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Lists sources, oldest first.
#[utoipa::path(get, path = "/v1/admin/sources", tag = "sources", params(Page),
    responses((status = 200, body = Paged<SourceView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<SourceView>>> {
    let mut connection = state.connection().await?;
    let mut query = sources::table
        .filter(sources::org_id.eq(caller.org_id))
        .order(sources::id)
        .limit(page.rows())
        .select(Stored::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(sources::id.gt(after));
    }
    let found: Vec<Stored> = query.load(&mut **connection).await?;
    let views = views(&mut connection, caller.org_id, found).await?;
    Ok(Json(page.of(views, |view| view.id.to_string())))
}

/// Makes a source and its pipeline.
#[utoipa::path(post, path = "/v1/admin/sources", tag = "sources", request_body = SourceInput,
    responses((status = 201, body = SourceView)))]
pub async fn create(
    State(state): State<Management>,
    caller: Caller,
    Body(input): Body<SourceInput>,
) -> Result<Versioned<SourceView>> {
    let input = input.checked()?;
    let (id, org) = (Uuid::now_v7(), caller.org_id);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let pipeline = Pipeline {
                id: Uuid::now_v7(),
                org_id: org,
                source_id: id,
                consent_mode: "explicit".to_owned(),
                purge_on_withdrawal: false,
                rate_limit_rps: None,
            };
            insert_into(sources::table).values(input.row(id, org)).execute(connection).await?;
            insert_into(pipelines::table).values(pipeline).execute(connection).await?;
            insert_hosts(connection, org, id, &input.collect_hosts).await?;
            let made = one(connection, org, id).await?;
            note("source.created", id, connection, &caller, None, Some(&made)).await?;
            Ok(Versioned(StatusCode::CREATED, made.version, made))
        })
        .await
}

/// Shows a source.
#[utoipa::path(get, path = "/v1/admin/sources/{id}", tag = "sources", params(("id" = Uuid, Path)),
    responses((status = 200, body = SourceView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
) -> Result<Versioned<SourceView>> {
    let mut connection = state.connection().await?;
    let source = one(&mut connection, caller.org_id, id).await?;
    Ok(Versioned(StatusCode::OK, source.version, source))
}

/// Replaces a source's settings.
#[utoipa::path(put, path = "/v1/admin/sources/{id}", tag = "sources", request_body = SourceInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = SourceView), (status = 409, description = "The version is not the newest.")))]
pub async fn update(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    seen: IfMatch,
    Body(input): Body<SourceInput>,
) -> Result<Versioned<SourceView>> {
    let input = input.checked()?;
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = locked(connection, org, id).await?;
            seen.check(Some(before.version))?;
            let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
            diesel::update(own)
                .set((
                    sources::name.eq(&input.name),
                    sources::domains.eq(&input.domains),
                    sources::browser_identity.eq(&input.browser_identity),
                    sources::require_signature.eq(input.require_signature),
                ))
                .execute(connection)
                .await?;
            let hosts = collect_hosts::table.filter(collect_hosts::org_id.eq(org));
            delete(hosts.filter(collect_hosts::source_id.eq(id))).execute(connection).await?;
            insert_hosts(connection, org, id, &input.collect_hosts).await?;
            let after = one(connection, org, id).await?;
            note("source.updated", id, connection, &caller, Some(&before), Some(&after)).await?;
            Ok(Versioned(StatusCode::OK, after.version, after))
        })
        .await
}

/// Removes a source with its keys and all of its settings: calls with its keys are refused within a second. Removing
/// one that is gone is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}", tag = "sources", params(("id" = Uuid, Path)),
    responses((status = 204)))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = match locked(connection, org, id).await {
                Err(error) if error.code() == Code::NotFound => {
                    return audit::already_removed(connection, org, "source.deleted", id).await;
                }
                found => found?,
            };
            let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
            delete(own).execute(connection).await?;
            note("source.deleted", id, connection, &caller, Some(&before), None).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// A source's row.
#[derive(Queryable, Selectable)]
#[diesel(table_name = sources, check_for_backend(diesel::pg::Pg))]
struct Stored {
    #[diesel(embed)]
    source: rows::Source,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl SourceInput {
    /// With everything in the form in which it is kept, or what is wrong with it.
    fn checked(mut self) -> Result<Self> {
        let mut wrong = Fields::default();
        wrong.text("name", &self.name, 1, 200);
        wrong.one_of("browser_identity", &self.browser_identity, &BROWSER_IDENTITY);
        wrong.check(self.domains.len() <= MOST, "domains", format!("must be at most {MOST}"));
        wrong.check(self.collect_hosts.len() <= MOST, "collect_hosts", format!("must be at most {MOST}"));
        let mut known = HashSet::new();
        for (index, domain) in self.domains.iter_mut().enumerate() {
            let field = format!("domains[{index}]");
            match domain_of(domain) {
                None => wrong.add(
                    field,
                    "must be host[:port] with a dot, or http://host[:port] on loopback; no path, no wildcard",
                ),
                Some(plain) => {
                    wrong.check(known.insert(plain.clone()), field, "is there twice");
                    *domain = plain;
                }
            }
        }
        let mut known = HashSet::new();
        for (index, host) in self.collect_hosts.iter_mut().enumerate() {
            let field = format!("collect_hosts[{index}]");
            let Some(url) = fields::origin(&host.url) else {
                wrong.add(field + ".url", "must be https://host[:port], or http on loopback; no path");
                continue;
            };
            wrong.check(known.insert(url.clone()), format!("{field}.url"), "is there twice");
            let fits = host.cookie_domain.as_deref().is_none_or(|domain| covers(domain, &url));
            wrong.check(
                fits,
                field + ".cookie_domain",
                "must be the host, or a domain with a dot that it is under",
            );
            host.url = url;
        }
        wrong.done()?;
        Ok(self)
    }

    fn row(&self, id: Uuid, org_id: Uuid) -> rows::Source {
        rows::Source {
            id,
            org_id,
            name: self.name.clone(),
            domains: self.domains.clone(),
            browser_identity: self.browser_identity.clone(),
            require_signature: self.require_signature,
        }
    }
}

/// A domain as it is kept: without https, which is implied, and without the scheme's own port.
fn domain_of(text: &str) -> Option<String> {
    let origin = match text.split_once("://") {
        None => fields::origin(&format!("https://{text}")),
        Some(_) => fields::origin(text),
    }?;
    // `null` is what a browser calls an origin that is nobody's.
    let host = origin.split("://").nth(1)?;
    if !host.contains('.') && !host.contains("localhost") && !host.starts_with('[') {
        return None;
    }
    Some(origin.strip_prefix("https://").map_or(origin.clone(), str::to_owned))
}

/// Whether a browser takes a cookie of `domain` from the host of `url`.
fn covers(domain: &str, url: &str) -> bool {
    let host =
        url::Url::parse(url).ok().and_then(|url| url.host().map(|host| host.to_string())).unwrap_or_default();
    let is_name =
        domain.contains('.') && domain.parse::<std::net::IpAddr>().is_err() && !domain.starts_with('.');
    is_name && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

async fn insert_hosts(
    connection: &mut AsyncPgConnection,
    org_id: Uuid,
    source_id: Uuid,
    hosts: &[CollectHost],
) -> Result<()> {
    let row = |host: &CollectHost| rows::CollectHost {
        id: Uuid::now_v7(),
        org_id,
        source_id,
        url: host.url.clone(),
        cookie_domain: host.cookie_domain.clone(),
    };
    // In their order, by which the core falls back to the first: the IDs grow.
    let rows: Vec<_> = hosts.iter().map(row).collect();
    insert_into(collect_hosts::table).values(rows).execute(connection).await?;
    Ok(())
}

/// The source of that ID, if it is the organisation's.
async fn one(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<SourceView> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    let found: Stored = own.select(Stored::as_select()).first(connection).await?;
    Ok(views(connection, org, vec![found]).await?.pop().ok_or(Code::NotFound)?)
}

/// The same, and nobody else changes it until the end of the transaction.
async fn locked(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<SourceView> {
    hold(connection, org, id).await?;
    one(connection, org, id).await
}

/// Refuses where the organisation has no source of that ID.
pub async fn exists(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    own.select(sources::id).first::<Uuid>(connection).await?;
    Ok(())
}

/// The same; and whoever else changes the source, or what belongs to it, waits for the end of the transaction.
pub async fn hold(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<()> {
    let own = sources::table.filter(sources::org_id.eq(org)).filter(sources::id.eq(id));
    own.select(sources::id).for_update().first::<Uuid>(connection).await?;
    Ok(())
}

/// What is shown of these sources, in their order.
async fn views(connection: &mut AsyncPgConnection, org: Uuid, found: Vec<Stored>) -> Result<Vec<SourceView>> {
    let ids: Vec<Uuid> = found.iter().map(|stored| stored.source.id).collect();
    let of_these =
        pipelines::table.filter(pipelines::org_id.eq(org)).filter(pipelines::source_id.eq_any(&ids));
    let pipelines: Vec<(Uuid, Uuid)> =
        of_these.select((pipelines::source_id, pipelines::id)).load(connection).await?;
    let pipelines: HashMap<Uuid, Uuid> = pipelines.into_iter().collect();
    let of_these = collect_hosts::table
        .filter(collect_hosts::org_id.eq(org))
        .filter(collect_hosts::source_id.eq_any(&ids));
    let in_order = of_these.order((collect_hosts::created_at, collect_hosts::id));
    let hosts: Vec<rows::CollectHost> =
        in_order.select(rows::CollectHost::as_select()).load(connection).await?;
    let shown = |stored: Stored| {
        let Stored { source, version, created_at, updated_at } = stored;
        let own = hosts.iter().filter(|host| host.source_id == source.id);
        let host = |row: &rows::CollectHost| CollectHost {
            url: row.url.clone(),
            cookie_domain: row.cookie_domain.clone(),
        };
        Some(SourceView {
            id: source.id,
            pipeline_id: *pipelines.get(&source.id)?,
            name: source.name,
            domains: source.domains,
            collect_hosts: own.map(host).collect(),
            browser_identity: source.browser_identity,
            require_signature: source.require_signature,
            version,
            created_at,
            updated_at,
        })
    };
    Ok(found.into_iter().filter_map(shown).collect())
}

async fn note(
    action: &'static str,
    id: Uuid,
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    before: Option<&SourceView>,
    after: Option<&SourceView>,
) -> Result<()> {
    let change = Change { action, resource: "source", id: &id.to_string() };
    change.record(connection, caller, before, after).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_kept_as_browsers_send_them() {
        for (text, kept) in [
            ("Shop.example", Some("shop.example")),
            ("shop.example:443", Some("shop.example")),
            ("https://shop.example:8443", Some("shop.example:8443")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://shop.example", None),
            ("*", None),
            ("*.example", None),
            ("null", None),
            ("https://null", None),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("shop.example/", None),
            ("shop.example/path", None),
            ("", None),
        ] {
            assert_eq!(domain_of(text).as_deref(), kept, "{text}");
        }
    }

    #[test]
    fn a_cookie_domain_is_one_that_the_host_may_set() {
        let url = "https://collect.shop.example:8443";
        assert!(covers("shop.example", url) && covers("collect.shop.example", url));
        for bad in [
            "example",
            "hop.example",
            "other.example",
            ".shop.example",
            "a.collect.shop.example",
            "",
            "127.0.0.1",
        ] {
            assert!(!covers(bad, url), "{bad}");
        }
        assert!(!covers("127.0.0.1", "http://127.0.0.1:8080"), "an address is host-only");
    }
}
