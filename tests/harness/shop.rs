//! A source as a customer makes one: over the management API, and nothing else.

use std::time::Duration;

use proto::v1::{AuthenticateRequest, CollectCaller};
use serde_json::json;

use crate::{browser::Browser, control::Admin, eventually, world::World};

/// Time within which a change of settings is to have reached every core. A second is promised; a machine that
/// runs other tests as well may take a look's time and its repetition longer.
pub const SETTINGS_LIMIT: Duration = Duration::from_secs(4);

/// A source and its pipeline.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Path of the source, `/v1/admin/sources/…`.
    pub source: String,
    /// Path of the pipeline, `/v1/admin/pipelines/…`.
    pub pipeline: String,
    /// The origin of its pages.
    pub origin: String,
    /// Name of its collect host, which leads to this machine and is its organisation's alone.
    pub collect_name: String,
}

/// A key that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Path of the key, `/v1/admin/sources/…/keys/…`.
    pub path: String,
    /// The key in clear.
    pub key: String,
    /// The Host header of calls with it.
    pub host: String,
}

impl Shop {
    /// Makes a source of `owner`'s that collects over the world's edge.
    pub async fn open(world: &World, owner: &Admin) -> Self {
        let collect_name = format!("{}.localhost", owner.org_id);
        let source = json!({
            "name": "Shop",
            "domains": ["boutique.example.com"],
            "collect_hosts": [{"url": world.cluster.collect_url_at(&collect_name)}],
        });
        let made = owner.post("/v1/admin/sources", &source).await.expect(201);
        let id = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
        Self {
            source: format!("/v1/admin/sources/{}", id("id")),
            pipeline: format!("/v1/admin/pipelines/{}", id("pipeline_id")),
            origin: "https://boutique.example.com".to_owned(),
            collect_name,
        }
    }

    /// Issues a key beside those that there are, and waits until every core knows it.
    pub async fn issue(&self, world: &World, owner: &Admin, environment: &str) -> Issued {
        let keys = format!("{}/keys", self.source);
        let answer = owner.post(&keys, &json!({"environment": environment, "keep_existing": true})).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        let issued = Issued {
            path: format!("{keys}/{}", answer.text("id")),
            key: answer.text("key"),
            host: world.cluster.host_at(&self.collect_name),
        };
        eventually("every core to know the key", async || every_core(world, &issued, true).await).await;
        issued
    }

    /// A new visitor's browser on one of its pages.
    pub fn browser(&self, world: &World, key: &Issued) -> Browser {
        Browser::new(&world.cluster.collect_url_at(&self.collect_name), &key.key, &self.origin)
    }
}

/// Checks that every core lets `key` in, or that none does; an error names the first that differs.
pub async fn every_core(world: &World, key: &Issued, lets_in: bool) -> Result<(), String> {
    let caller =
        CollectCaller { pipeline_key: key.key.clone(), host: key.host.clone(), ..CollectCaller::default() };
    for core in 0..world.cluster.cores.len() {
        let edge = world.cluster.api(core, &world.cluster.secrets.edge_token).unwrap();
        let request = AuthenticateRequest { caller: Some(caller.clone()), before_body: false };
        let code =
            edge.auth().authenticate(request).await.map_or_else(|status| status.code(), |_| tonic::Code::Ok);
        let expected = if lets_in { tonic::Code::Ok } else { tonic::Code::Unauthenticated };
        if code != expected {
            return Err(format!("core {core} answers {code:?}"));
        }
    }
    Ok(())
}
