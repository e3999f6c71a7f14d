//! The plan of a provider of profiles: its settings, read into what its calls are made of.

use std::{sync::Arc, time::Duration};

use egress::target::Reach;
use http::{HeaderName, Method, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    amperity,
    candidates::{LinkingKey, Source, candidates},
    visitor::Carried,
};
use crate::{
    consent::Category,
    providers::{
        json_path,
        plan::{Plan, Prepared, TIMEOUT},
        template::Template,
        validation::Problems,
        variables::Variables,
    },
    settings::StoredProvider,
    storage::postgres::provider_states::ProviderName,
    vendors::{ConsentNeed, enrichment::Protocol},
};

/// Time for which attributes are as good as new.
const FRESH: Duration = Duration::from_mins(5);
/// Time for which they are told while they are read anew.
const KEPT: Duration = Duration::from_mins(15);
/// Name of the provider that is looked up at.
pub const AMPERITY: &str = "amperity";
/// Name by which the state of the provider is kept apart from that of the enrichment of the same name.
pub const STATE: &str = "profile:amperity";
/// Name of the key that reads profiles.
const KEY: &str = "profile_api_key";

/// The ways in which profiles come.
#[derive(Clone)]
pub enum Provided {
    /// By look-ups, with what links a visitor to their profile.
    Linked(Arc<ProfilePlan>),
    /// As enrichment has kept them with an ID.
    Kept(Arc<Kept>),
}

impl Provided {
    /// The provider as it is stored.
    pub fn provider(&self) -> &StoredProvider {
        match self {
            Self::Linked(plan) => &plan.provider,
            Self::Kept(kept) => &kept.provider,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Value {
        &self.provider().settings
    }

    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Linked(_) => "amperity",
            Self::Kept(kept) => kept.label,
        }
    }

    /// The consent that it needs.
    pub fn need(&self) -> Option<ConsentNeed> {
        match self {
            Self::Linked(plan) => plan.need,
            Self::Kept(_) => None,
        }
    }
}

/// Attributes that an enrichment brought with its ID, which nobody is asked for here.
pub struct Kept {
    /// The enrichment.
    pub provider: Arc<StoredProvider>,
    /// Its plan.
    pub plan: Plan,
    /// Its name as a provider of profiles.
    pub label: &'static str,
}

/// All that calls to one provider are made of, but for the visitor and the credentials.
pub struct ProfilePlan {
    /// The provider as it is stored.
    pub provider: Arc<StoredProvider>,
    /// Its name, for its state.
    pub name: ProviderName,
    /// Linking keys in the order in which they are tried.
    pub keys: Vec<LinkingKey>,
    /// Paths into the event, each with the name that its value is sent by; none where nothing is personalised.
    pub mappings: Vec<(String, String)>,
    /// The consent that is needed, where the customer says so.
    pub need: Option<ConsentNeed>,
    base: Url,
    tenant: String,
    collection: String,
}

impl ProfilePlan {
    /// Reads the settings of `provider`. None where they are not valid any more.
    pub fn read(provider: Arc<StoredProvider>, name: ProviderName, reach: &Reach<'_>) -> Option<Self> {
        let settings = &provider.settings;
        let mut problems = Problems::default();
        amperity::check(settings, reach, &mut problems);
        if !problems.into_list().is_empty() {
            return None;
        }
        let text = |name: &str| settings.get(name).and_then(Value::as_str);
        let subdomain = text("tenant_subdomain")?;
        let own = || format!("https://{subdomain}.amperity.com");
        let base = Url::parse(&text("base_url").map_or_else(own, str::to_owned)).ok()?;
        let entries = |name: &str| settings.get(name).and_then(Value::as_array).into_iter().flatten();
        let is_personal = settings.get("context_enabled").and_then(Value::as_bool).unwrap_or_default();
        let pair = |entry: &Value| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
            Some((text("source")?, text("target")?))
        };
        let category = text("consent_category").and_then(Category::of_name);
        Some(Self {
            base,
            tenant: text("tenant_id")?.to_owned(),
            collection: text("profile_collection_id")?.to_owned(),
            keys: entries("linking_keys").filter_map(linking_key).collect(),
            mappings: entries("context_mappings").filter(|_| is_personal).filter_map(pair).collect(),
            need: category
                .map(|category| ConsentNeed { category: category.name(), ..ConsentNeed::MARKETING }),
            name,
            provider,
        })
    }

    /// The look-up of who has `value` as the linking key of that name.
    pub fn look_up(&self, key: &str, value: &str) -> Option<(Plan, Prepared)> {
        let url = self.url(&["lookup", &self.collection, "keychain"])?;
        let request = json!({"keys": {key: value}, "enrich": false});
        Some((
            self.plan(Method::POST)?,
            Prepared::of(&self.provider.settings, url, request, std::iter::empty()),
        ))
    }

    /// The first look-up for a visitor with these variables; none where nothing is known that a key is read from.
    pub fn first(&self, variables: &Variables, carried: &Carried) -> Option<(Plan, Prepared)> {
        let candidate = candidates(&self.keys, variables, |_| false, carried).into_iter().next()?;
        self.look_up(&candidate.key, &candidate.value)
    }

    /// The reading of the profile of that ID.
    pub fn fetch(&self, id: &str) -> Option<(Plan, Prepared)> {
        self.profile(id, Map::new())
    }

    /// The reading of the profile of that ID as it is in a context.
    pub fn personalize(
        &self,
        id: &str,
        context: impl Iterator<Item = (String, String)>,
    ) -> Option<(Plan, Prepared)> {
        let mut request: Map<String, Value> =
            context.map(|(name, value)| (name, Value::String(value))).collect();
        request.insert("enrich".to_owned(), Value::Bool(true));
        self.profile(id, request)
    }

    fn profile(&self, id: &str, request: Map<String, Value>) -> Option<(Plan, Prepared)> {
        if [".", ".."].contains(&id) {
            return None;
        }
        let url = self.url(&["profiles", &self.collection, id])?;
        let request = Value::Object(request);
        Some((
            self.plan(Method::GET)?,
            Prepared::of(&self.provider.settings, url, request, std::iter::empty()),
        ))
    }

    fn url(&self, path: &[&str]) -> Option<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut().ok()?.pop_if_empty().push("prof").extend(path);
        Some(url)
    }

    fn plan(&self, method: Method) -> Option<Plan> {
        let credentials = vec![KEY];
        let bearer = Template::parse(&format!("Bearer {{{{{KEY}}}}}"), &credentials).ok()?;
        let tenant = Template::parse(&self.tenant, &[]).ok()?;
        Some(Plan {
            label: "amperity_profile",
            field: String::new(),
            need: ConsentNeed::MARKETING,
            method,
            url: Template::parse(self.base.as_str(), &[]).ok()?,
            headers: vec![
                (header::AUTHORIZATION, bearer),
                (HeaderName::from_static("amperity-tenant"), tenant),
            ],
            basic: None,
            request: Value::Null,
            variables: &[],
            inputs: Vec::new(),
            json_path: json_path::singular("$.profile_id").ok()?,
            other_shape: None,
            // `links` beside them has emails and phones in clear, and is not kept.
            attributes: json_path::singular("$.attributes").ok(),
            no_match: &[404],
            protocol: Protocol::Json,
            is_own_number: true,
            ttl: FRESH,
            kept: KEPT,
            timeout: TIMEOUT,
            credentials,
        })
    }
}

fn linking_key(entry: &Value) -> Option<LinkingKey> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let source = match text("source")? {
        "canonical_id" => Source::CanonicalId,
        "anonymous_id" => Source::AnonymousId,
        "user_id" => Source::UserId,
        "email" => Source::Email,
        "phone" => Source::Phone,
        _ => return None,
    };
    Some(LinkingKey { source, key: text("key")?.to_owned(), is_hashed: text("hash").is_some() })
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::settings::ProviderKind;

    #[test]
    fn a_value_stays_in_its_place() {
        let settings = json!({"tenant_subdomain": "acme", "tenant_id": "acme-7", "event_stream_id": "esm-1",
            "source_value": "DATAFLY", "profile_collection_id": "apc-1", "context_enabled": true,
            "linking_keys": [{"source": "email", "key": "email_sha256", "hash": "sha256"}, {"source": "phone", "key": "p"}],
            "context_mappings": [{"source": "properties.category", "target": "pageCategory"}]});
        let provider = Arc::new(StoredProvider {
            id: Uuid::nil(),
            name: "amperity".to_owned(),
            kind: ProviderKind::Profile,
            settings,
            credentials: None,
            version: OffsetDateTime::UNIX_EPOCH,
        });
        let name = ProviderName { org: Uuid::nil(), source: Uuid::nil(), provider: STATE.to_owned() };
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let plan = ProfilePlan::read(provider, name, &reach).unwrap();
        assert_eq!(plan.keys.iter().map(|key| key.is_hashed).collect::<Vec<_>>(), [true, false]);
        let (call, prepared) = plan.look_up("p", "a\"}/../b").unwrap();
        assert_eq!(prepared.url.as_str(), "https://acme.amperity.com/prof/lookup/apc-1/keychain");
        assert_eq!(prepared.request, json!({"keys": {"p": "a\"}/../b"}, "enrich": false}));
        assert_eq!((call.method, call.credentials), (Method::POST, vec!["profile_api_key"]));
        let (_, fetched) = plan.fetch("a/../b?c#d").unwrap();
        assert_eq!(fetched.url.as_str(), "https://acme.amperity.com/prof/profiles/apc-1/a%2F..%2Fb%3Fc%23d");
        assert!(plan.fetch("..").is_none());
        let context = [("pageCategory".to_owned(), "{{user_id}}".to_owned())];
        let (_, personal) = plan.personalize("amp-1", context.into_iter()).unwrap();
        assert_eq!(personal.request, json!({"pageCategory": "{{user_id}}", "enrich": true}));
        assert_ne!(plan.fetch("amp-1").unwrap().1.inputs, personal.inputs);
    }
}
