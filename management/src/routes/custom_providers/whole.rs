//! A source's own providers all at once, in the JSON that the product's documentation has for them.

use std::collections::HashSet;

use axum::{Json, extract::State};
use diesel::{ExpressionMethods, QueryDsl, SelectableHelper};
use diesel_async::{AsyncConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::custom_providers;
use proto::v1::ProviderKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Checked, CustomProviderView, MAX_PROVIDERS, check_references, field_of, forgive_kept_field,
    input::CustomProvider, sources, store, take,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{ApiError, Result},
        fields::Fields,
        org_lock::lock_org,
        query::Id,
    },
    provider,
    state::Management,
};

/// A source's own providers, with or without the outer member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrichmentSettings {
    enrichment: Option<CustomProviders>,
    /// All providers that there are to be, each with its name; at most 100.
    #[schema(max_items = 100)]
    custom_providers: Option<Vec<CustomProvider>>,
}

/// A list of a source's own providers.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomProviders {
    /// All providers that there are to be, each with its name; at most 100.
    #[schema(max_items = 100)]
    custom_providers: Vec<CustomProvider>,
}

impl EnrichmentSettings {
    /// The providers, and the path of their list.
    fn providers(self) -> Result<(&'static str, Vec<CustomProvider>)> {
        match (self.enrichment, self.custom_providers) {
            (Some(outer), None) => Ok(("enrichment.custom_providers", outer.custom_providers)),
            (None, Some(list)) => Ok(("custom_providers", list)),
            (None, None) => Err(ApiError::field("custom_providers", "is required")),
            (Some(_), Some(_)) => Err(ApiError::field("custom_providers", "is there twice")),
        }
    }
}

/// A source's own providers as they are kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomProvidersView {
    custom_providers: Vec<CustomProviderView>,
}

/// Replaces a source's own providers by those of the body, all or none of them. Those that it does not name are
/// removed.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/enrichment", tag = "custom-providers",
    request_body = EnrichmentSettings, params(("id" = Uuid, Path)),
    responses((status = 200, body = CustomProvidersView), (status = 201, body = CustomProvidersView),
        (status = 422, description = "Fields are not valid, each told with the index of its provider; or, as \
            `CREDENTIAL_NOT_FOR_HOST`, an endpoint is at no host of its secret, or the secret has none yet and the \
            caller is an editor.")))]
pub async fn set_all(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Body(input): Body<EnrichmentSettings>,
) -> Result<(StatusCode, Json<CustomProvidersView>)> {
    let (path, given) = input.providers()?;
    let org = caller.org_id;
    let mut wrong = Fields::default();
    let fits = i64::try_from(given.len()).is_ok_and(|number| number <= MAX_PROVIDERS);
    wrong.check(fits, path, format!("must be at most {MAX_PROVIDERS}"));
    wrong.done()?;
    // Before the core is asked, which another organisation's source is no reason for.
    sources::exists(&mut *state.connection().await?, org, source).await?;
    let mut wrong = Fields::default();
    let mut providers = Vec::new();
    let (mut names, mut fields) = (HashSet::new(), HashSet::new());
    for (index, provider) in given.iter().enumerate() {
        let prefix = format!("{path}[{index}].");
        let mut settings = provider::merged(None, provider::object(provider)?);
        let name =
            settings.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        provider::check(&state.core, &mut wrong, &prefix, org, ProviderKind::Custom, &name, &settings)
            .await?;
        let settings = Value::Object(settings);
        wrong.check(names.insert(name.clone()), format!("{prefix}name"), "is there twice");
        let is_new = field_of(&settings).is_none_or(|field| fields.insert(field.to_owned()));
        wrong.check(is_new, format!("{prefix}response_mapping.redis_field"), "is there twice");
        providers.push((prefix, name, settings));
    }
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            lock_org(connection, org).await?;
            let known: Vec<CustomProviderView> = custom_providers::table
                .filter(custom_providers::org_id.eq(org))
                .filter(custom_providers::source_id.eq(source))
                .select(CustomProviderView::as_select())
                .load(connection)
                .await?;
            // First, since others may take over their fields.
            for gone in known.iter().filter(|known| !names.contains(&known.name)) {
                take(connection, org, source, &gone.name).await?;
                let id = format!("{source}/{}", gone.name);
                audit::record(connection, &caller, "custom_provider", &id, Some(gone), None).await?;
            }
            let before = |name: &str| known.iter().find(|known| known.name == name);
            for (prefix, name, settings) in &providers {
                forgive_kept_field(&mut wrong, prefix, before(name), settings);
                check_references(connection, &mut wrong, prefix, org, name, settings).await?;
            }
            wrong.done()?;
            let mut stored = Vec::new();
            for (prefix, name, settings) in &providers {
                let checked = Checked { source, prefix, name, settings };
                stored.push(store(&state, connection, &caller, checked, before(name)).await?);
            }
            let is_new = providers.iter().any(|(_, name, _)| before(name).is_none());
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(CustomProvidersView { custom_providers: stored })))
        })
        .await
}
