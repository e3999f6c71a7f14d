//! Providers of enrichment in a test's world: their settings, and calls to `POST /v1/enrich`.

use diesel::ExpressionMethods;
use diesel_async::RunQueryDsl;
use migrations::{
    schema,
    sealed::{
        Place, SealKey, SealKeys,
        audience::{BoundCredentials, BoundSecret},
    },
};
use proto::v1::{
    Audience, BatchProfileRequest, Caller, CheckOriginRequest, ProfileResponse, ProfileSubject, Subject,
    caller::Kind as CallerKind,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    database::TestDatabase,
    enrich_sim::EnrichSim,
    eventually, profile_sim,
    signature::user_hash,
    system,
    visits::granted,
    world::{Options, World},
};

/// The built-in vendors of enrichment.
pub const VENDORS: [&str; 5] = ["acxiom_realid", "amperity", "liveramp_ats", "uid2", "trade_desk"];

/// A world whose customer asks the simulated providers.
#[derive(Debug)]
pub struct Enriching {
    /// The world.
    pub world: World,
    /// The providers.
    pub sim: EnrichSim,
}

impl Enriching {
    /// Starts a world in which loopback may be called, with these vendors enabled.
    pub async fn with(options: Options, vendors: &[&str]) -> Self {
        let options = Options { open_networks: "127.0.0.0/8", ..options };
        let (world, sim) = (World::with(options).await, EnrichSim::start().await.unwrap());
        let own = Self { world, sim };
        for vendor in vendors {
            own.enable(vendor, &json!({})).await;
        }
        own.settle().await;
        own
    }

    /// Starts a world with one core and all vendors.
    pub async fn start() -> Self {
        Self::with(Options::default(), &VENDORS).await
    }

    /// Enables a vendor at its simulator, with settings of its own.
    pub async fn enable(&self, vendor: &str, more: &Value) {
        let mut config = json!({"base_url": self.sim.base_url(vendor)});
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        self.give(vendor, &config, &self.sim.credentials(vendor)).await;
    }

    /// Gives a vendor's settings and credentials, in place of those that there are.
    pub async fn give(&self, vendor: &str, config: &Value, credentials: &Value) {
        let customer = &self.world.customer;
        let mut database = self.world.database.connection().await.unwrap();
        let sql = format!(
            "DELETE FROM enrichment_settings WHERE source_id = '{}' AND vendor = '{vendor}'",
            customer.source_id
        );
        TestDatabase::execute(&self.world.database, &sql).await;
        let id = Uuid::now_v7();
        let origin = format!("http://{}", self.sim.addr);
        let mut bound = BoundCredentials::parse(credentials.to_string().as_bytes()).unwrap();
        bound.origin = Some(origin);
        let place = Place { org: customer.org_id, table: "enrichment_settings", row: id, column: "sealed" };
        let sealed = self.keys().seal(place, &bound.to_plain()).unwrap();
        use schema::enrichment_settings as settings;
        let row = (
            settings::id.eq(id),
            settings::org_id.eq(customer.org_id),
            settings::source_id.eq(customer.source_id),
            settings::vendor.eq(vendor),
            settings::enabled.eq(true),
            settings::config.eq(config),
            settings::sealed.eq(sealed),
            settings::sealed_at.eq(system::now()),
        );
        diesel::insert_into(settings::table).values(row).execute(&mut database).await.unwrap();
    }

    /// Adds a provider of the customer's own, as the specification's example with `more` in it, and its secret.
    pub async fn add_custom(&self, name: &str, more: &Value) {
        let customer = &self.world.customer;
        let mut database = self.world.database.connection().await.unwrap();
        let mut settings = json!({
            "name": name,
            "endpoint": format!("{}/v1/resolve", self.sim.base_url(name)),
            "method": "POST",
            "authentication": {"type": "bearer", "token_secret_ref": format!("secret:{name}_token")},
            "request_template": {"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}"},
            "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"},
            "ttl": "30d",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        let field = settings["response_mapping"]["redis_field"].as_str().unwrap().to_owned();
        let id = Uuid::now_v7();
        use schema::custom_providers as providers;
        let row = (
            providers::id.eq(id),
            providers::org_id.eq(customer.org_id),
            providers::source_id.eq(customer.source_id),
            providers::name.eq(name),
            providers::redis_field.eq(field),
            providers::settings.eq(&settings),
        );
        diesel::insert_into(providers::table).values(row).execute(&mut database).await.unwrap();
        let id = Uuid::now_v7();
        let secret = BoundSecret {
            hosts: vec![self.sim.addr.to_string()],
            value: SecretString::from(format!("{name}-{}", crate::enrich_sim::CREDENTIAL)),
        };
        let place = Place { org: customer.org_id, table: "secrets", row: id, column: "sealed" };
        let sealed = self.keys().seal(place, &secret.to_plain()).unwrap();
        use schema::secrets;
        let row = (
            secrets::id.eq(id),
            secrets::org_id.eq(customer.org_id),
            secrets::name.eq(format!("{name}_token")),
            secrets::sealed.eq(sealed),
        );
        diesel::insert_into(secrets::table).values(row).execute(&mut database).await.unwrap();
    }

    /// Sets Amperity up as the provider of profiles, at its simulator, in place of what there is; `more` goes over the
    /// settings.
    pub async fn set_profiles(&self, more: &Value) {
        self.set_profiles_with(more, &profile_sim::profile_key()).await;
    }

    /// Sets it up with that key to read profiles.
    pub async fn set_profiles_with(&self, more: &Value, key: &str) {
        let customer = &self.world.customer;
        let mut database = self.world.database.connection().await.unwrap();
        let sql = format!("DELETE FROM profile_providers WHERE source_id = '{}'", customer.source_id);
        TestDatabase::execute(&self.world.database, &sql).await;
        let mut config = json!({
            "tenant_subdomain": "acme",
            "tenant_id": profile_sim::TENANT,
            "event_stream_id": "esm-2VP6va3Zn",
            "source_value": "DATAFLY",
            "profile_collection_id": profile_sim::COLLECTION,
            "linking_keys": [
                {"source": "email", "key": "email_sha256", "hash": "sha256"},
                {"source": "canonical_id", "key": "device_cookie"},
                {"source": "user_id", "key": "customer_id"},
            ],
            "browser_attribute_allowlist": "Persona,LifetimeTier,Hero",
            "base_url": self.sim.base_url("profiles"),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let id = Uuid::now_v7();
        let keys = json!({"api_key": profile_sim::ingest_key(), "profile_api_key": key});
        let mut bound = BoundCredentials::parse(keys.to_string().as_bytes()).unwrap();
        bound.origin = serve::origin::origin_of(config["base_url"].as_str().unwrap());
        let place = Place { org: customer.org_id, table: "profile_providers", row: id, column: "sealed" };
        let sealed = self.keys().seal(place, &bound.to_plain()).unwrap();
        use schema::profile_providers as providers;
        let row = (
            providers::id.eq(id),
            providers::org_id.eq(customer.org_id),
            providers::source_id.eq(customer.source_id),
            providers::provider.eq("amperity"),
            providers::enabled.eq(true),
            providers::config.eq(config),
            providers::sealed.eq(sealed),
            providers::sealed_at.eq(system::now()),
            providers::credentials.eq(vec!["api_key", "profile_api_key"]),
        );
        diesel::insert_into(providers::table).values(row).execute(&mut database).await.unwrap();
        self.settle().await;
    }

    /// What whoever delivers events is told of visitors, each with the event at hand.
    pub async fn profiles(
        &self,
        core: usize,
        subjects: Vec<(Subject, Option<Value>)>,
    ) -> Vec<ProfileResponse> {
        let subject = |(subject, event): (Subject, Option<Value>)| ProfileSubject {
            subject: Some(subject),
            event: event.and_then(|event| proto::json::of_text(&event.to_string())),
        };
        let request = BatchProfileRequest {
            caller: Some(Caller { kind: Some(CallerKind::OrgId(self.world.customer.org_id.to_string())) }),
            provider: "amperity".to_owned(),
            subjects: subjects.into_iter().map(subject).collect(),
            audience: Audience::Server.into(),
            source_id: Some(self.world.customer.source_id.to_string()),
        };
        let cluster = &self.world.cluster;
        let mut api = cluster.api(core, &cluster.secrets.internal_token).unwrap().profile();
        api.batch_profile(request).await.unwrap().into_inner().profiles
    }

    /// What whoever delivers events is told of one browser.
    pub async fn profile(&self, anonymous_id: &str, event: Option<Value>) -> ProfileResponse {
        self.profiles(0, vec![(subject(anonymous_id), event)]).await.remove(0)
    }

    /// The attributes that a page is told, as Datafly.js asks for them.
    pub async fn page_profile(&self, browser: &mut Browser, provider: &str) -> Value {
        let path = format!("/v1/enrich?provider={provider}&aid={}", browser.aid());
        let request = browser.request(reqwest::Method::GET, &path).bearer_auth(&browser.key);
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        let body = answer.json();
        assert_eq!((body.as_object().unwrap().len(), &body["provider"]), (2, &json!(provider)), "{body}");
        body["attributes"].clone()
    }

    fn keys(&self) -> SealKeys {
        let key = SecretString::from(self.world.cluster.secrets.encryption_key.as_str());
        SealKeys::new(SealKey::from_hex(&key).unwrap(), None)
    }

    /// Waits until every core has the settings that there are.
    pub async fn settle(&self) {
        let (world, name) = (&self.world, format!("{}.localhost", Uuid::new_v4().simple()));
        let url = world.cluster.collect_url_at(&name);
        world.customer.add_collect_host(&mut world.database.connection().await.unwrap(), &url).await.unwrap();
        let (host, origin) = (world.cluster.host_at(&name), world.customer.origin.clone());
        for core in 0..world.cluster.cores.len() {
            let mut auth = world.cluster.api(core, &world.cluster.secrets.edge_token).unwrap().auth();
            eventually("the core to have the settings", async || {
                let request = CheckOriginRequest { host: host.clone(), origin: origin.clone() };
                match auth.check_origin(request).await {
                    Ok(answer) if answer.get_ref().allowed => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
    }

    /// A visitor who has consented.
    pub async fn visitor(&self) -> Browser {
        let mut browser = self.world.browser();
        assert_accepted(&browser.view(&granted()).await, 1);
        browser
    }

    /// A visitor who has consented and typed in an email, which nobody vouches for.
    pub async fn visitor_with(&self, email: &str) -> Browser {
        let mut browser = self.visitor().await;
        let event = json!({"type": "identify", "anonymousId": browser.aid(), "traits": {"email": email}});
        assert_accepted(&browser.batch(&json!([event])).await, 1);
        browser
    }

    /// Has the browser log in as a user, of whom the customer's server vouches for the ID and the email.
    pub async fn prove(&self, browser: &mut Browser, user: &str, email: &str) {
        let secret = &self.world.customer.server_secret;
        let event = json!({"type": "identify", "anonymousId": browser.aid(), "userId": user,
            "context": {"userHash": user_hash(secret, user)}});
        assert_accepted(&browser.batch(&json!([event])).await, 1);
        let event = json!({"type": "identify", "userId": user, "traits": {"email": email}});
        let answer = self.signed("/v1/batch", &json!({"batch": [event]})).await;
        assert_accepted(&answer, 1);
    }

    /// A call that the customer's server signs.
    pub async fn signed(&self, path: &str, body: &Value) -> Answer {
        let mut server = self.world.browser();
        server.origin = None;
        let body = body.to_string();
        let timestamp = crate::system::now().unix_timestamp().to_string();
        let signature =
            crate::signature::sign(&self.world.customer.server_secret, &format!("{timestamp}.{body}"));
        let request = server.request(reqwest::Method::POST, path).bearer_auth(&server.key);
        let request =
            request.header("x-datafly-signature", signature).header("x-datafly-timestamp", timestamp);
        server.send(request.body(body)).await
    }

    /// Asks for a visitor's ID, as Datafly.js does, and returns the answer's JSON.
    pub async fn enrich(&self, browser: &mut Browser, vendor: &str) -> Value {
        let body = json!({"vendor": vendor, "anonymous_id": browser.aid()});
        let answer = browser.post("/v1/enrich", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Asks, and expects an ID.
    #[track_caller]
    pub fn id_of<'a>(&self, answer: &'a Value) -> &'a str {
        answer["id"].as_str().unwrap_or_else(|| panic!("no ID: {answer}"))
    }
}

/// A browser, by its anonymous ID alone.
pub fn subject(anonymous_id: &str) -> Subject {
    Subject { anonymous_id: Some(anonymous_id.to_owned()), ..Subject::default() }
}

/// Checks that an answer skipped the vendor for that reason.
#[track_caller]
pub fn assert_skipped(answer: &Value, reason: &str) {
    let expected = json!([null, "skipped", reason]);
    assert_eq!(json!([answer["id"], answer["status"], answer["reason"]]), expected, "{answer}");
}
