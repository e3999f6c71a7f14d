//! Calls about people, as services and pages make them: over any core, in any organisation.

use identity_service::vendors;
use proto::v1::{
    Caller, CollectCaller, CreateLinkRequest, DeleteRequest, IdentityRef, IdentityVendorIds, LookupRequest,
    Person, Resolution, ResolveRequest, Subject, UnmergeRequest, VendorIdsRequest, caller::Kind,
    identity_ref::Id,
};
use tonic::Status;

use crate::{grpc::Api, signature::user_hash, world::World};

/// An operator of one organisation: reaches every core with the roles `internal` and `admin`.
#[derive(Debug, Clone)]
pub struct People {
    cores: Vec<Api>,
    org: String,
    /// The caller for whom subjects are resolved.
    caller: Caller,
}

impl People {
    /// An operator of the organisation of the world's customer. A service vouches for all that it says.
    pub fn of(world: &World) -> Self {
        Self::in_org(world, &world.customer.org_id.to_string())
    }

    /// An operator of the organisation with the ID `org`.
    pub fn in_org(world: &World, org: &str) -> Self {
        let token = &world.cluster.secrets.operator_token;
        let cores = (0..world.cluster.cores.len()).map(|core| world.cluster.api(core, token).unwrap());
        let caller = Caller { kind: Some(Kind::OrgId(org.to_owned())) };
        Self { cores: cores.collect(), org: org.to_owned(), caller }
    }

    /// The same operator, whose subjects come from a page of the customer's: nobody vouches for their user
    /// IDs, unless a hash does (see [`vouched`]).
    pub fn on_page(world: &World) -> Self {
        Self { caller: page(world), ..Self::of(world) }
    }

    fn core(&self, core: usize) -> &Api {
        &self.cores[core % self.cores.len()]
    }

    /// Resolves subjects, in one call.
    pub async fn resolve(&self, core: usize, subjects: Vec<Subject>) -> Result<Vec<Resolution>, Status> {
        let request =
            ResolveRequest { caller: Some(self.caller.clone()), subjects, ..ResolveRequest::default() };
        Ok(self.core(core).resolve().resolve(request).await?.into_inner().resolutions)
    }

    /// Resolves one subject, and panics at the caller's place where that fails.
    #[track_caller]
    pub fn see(&self, core: usize, subject: Subject) -> impl Future<Output = Resolution> + Send + use<> {
        let own = self.clone();
        let from = std::panic::Location::caller();
        async move {
            let resolved = own.resolve(core, vec![subject]).await;
            let one = resolved.unwrap_or_else(|status| panic!("{from}: {status}")).remove(0);
            assert_eq!(one.error, None, "{from}");
            one
        }
    }

    /// A token that takes a browser along to another of the customer's domains.
    pub async fn link_token(&self, browser: &str) -> String {
        let caller = Some(self.caller.clone());
        let request = CreateLinkRequest { caller, cookie_anonymous_id: browser.to_owned() };
        self.core(0).resolve().create_link(request).await.unwrap().into_inner().link_token
    }

    /// Vendor IDs of each identity, as delivery gets them from a core.
    pub async fn vendor_ids(&self, core: usize, identities: Vec<Id>) -> Vec<IdentityVendorIds> {
        self.vendor_ids_for(core, identities.into_iter().map(named).collect()).await
    }

    /// Vendor IDs of each identity for the browser beside it, as delivery gets them from a core.
    pub async fn vendor_ids_for(&self, core: usize, identities: Vec<IdentityRef>) -> Vec<IdentityVendorIds> {
        let request = VendorIdsRequest {
            org_id: self.org.clone(),
            identities,
            fields: Vec::new(),
            ..VendorIdsRequest::default()
        };
        self.core(core).resolve().vendor_ids(request).await.unwrap().into_inner().identities
    }

    /// Vendor IDs of one identity, on which all cores must agree.
    pub async fn delivered(&self, id: Id) -> IdentityVendorIds {
        self.delivered_for(named(id)).await
    }

    /// Vendor IDs of one identity for the browser beside it, on which all cores must agree.
    pub async fn delivered_for(&self, identity: IdentityRef) -> IdentityVendorIds {
        let mut answers = Vec::new();
        for core in 0..self.cores.len() {
            answers.extend(self.vendor_ids_for(core, vec![identity.clone()]).await);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "cores differ: {answers:#?}");
        answers.remove(0)
    }

    /// The canonical ID of an identity; empty where nobody has it.
    pub async fn canonical(&self, id: Id) -> String {
        self.delivered(id).await.canonical_id
    }

    /// Looks a person up.
    pub async fn lookup(&self, id: Id) -> Result<Person, Status> {
        let request = LookupRequest { org_id: self.org.clone(), identity: Some(named(id)) };
        Ok(self.core(0).people().lookup(request).await?.into_inner().person.unwrap())
    }

    /// Erases the person whom an ID names.
    pub async fn delete(&self, core: usize, id: Id) -> Result<(), Status> {
        let request = DeleteRequest { org_id: self.org.clone(), identity: Some(named(id)) };
        self.core(core).people().delete(request).await.map(drop)
    }

    /// Takes a merge apart, and answers with the canonical ID that is on its own again.
    pub async fn unmerge(&self, core: usize, merge_id: &str) -> Result<String, Status> {
        let request = UnmergeRequest { org_id: self.org.clone(), merge_id: merge_id.to_owned() };
        Ok(self.core(core).people().unmerge(request).await?.into_inner().canonical_id)
    }
}

/// Names a person by an anonymous ID.
pub fn browser(id: impl Into<String>) -> Id {
    Id::AnonymousId(id.into())
}

/// Names a person by a user ID.
pub fn user(id: impl Into<String>) -> Id {
    Id::UserId(id.into())
}

/// Names a person by a canonical ID.
pub fn canonical(id: impl Into<String>) -> Id {
    Id::CanonicalId(id.into())
}

/// Names a person by an ID alone.
pub fn named(id: Id) -> IdentityRef {
    IdentityRef { id: Some(id), browser: None }
}

/// Names a person by an ID, and the browser whose own values come first.
pub fn beside(id: Id, browser: impl Into<String>) -> IdentityRef {
    IdentityRef { id: Some(id), browser: Some(browser.into()) }
}

/// An event of a browser whose visitor is not logged in.
pub fn visit(browser: impl Into<String>) -> Subject {
    Subject { anonymous_id: Some(browser.into()), ..Subject::default() }
}

/// A login on a browser.
pub fn login(browser: impl Into<String>, user: impl Into<String>) -> Subject {
    Subject { user_id: Some(user.into()), ..visit(browser) }
}

/// An event of a browser, with the anonymous ID that its cookie has.
pub fn cookie(browser: impl Into<String>, cookie: impl Into<String>) -> Subject {
    Subject { cookie_anonymous_id: Some(cookie.into()), ..visit(browser) }
}

/// The subject with a hash of the customer's server that vouches for its user ID.
pub fn vouched(world: &World, subject: Subject) -> Subject {
    let user_id = subject.user_id.as_deref().unwrap_or_else(|| panic!("there is no user ID to vouch for"));
    let user_hash = Some(user_hash(&world.customer.server_secret, user_id));
    Subject { user_hash, ..subject }
}

/// Stores a vendor ID that this browser or user of the customer's might have brought just now, and has Redis
/// forget what it knew.
pub async fn give(world: &World, owner: Id, field: &str, value: &str) {
    let (kind, owner) = match &owner {
        Id::AnonymousId(browser) => (0, browser),
        Id::UserId(user) => (1, user),
        Id::CanonicalId(id) => panic!("{id} brings nothing, its browsers do"),
    };
    let link = format!("org_id = '{}' AND kind = {kind} AND value = '{owner}'", world.customer.org_id);
    assert_eq!(world.database.count("links", &link).await, 1, "nobody is {owner}");
    let is_click = vendors::click_ids().any(|record| record.field == field);
    let source = if is_click { "click" } else { "sync" };
    // Locked as any writer does: the reaper may be writing anew what Redis serves of them.
    let sql = format!(
        "SELECT FROM canonicals WHERE id IN (SELECT canonical_id FROM links WHERE {link}) FOR NO KEY UPDATE;
         INSERT INTO vendor_ids
             (org_id, canonical_id, field, value, source, collected_at, expires_at, owner_kind, owner)
         SELECT org_id, canonical_id, '{field}', '{value}', '{source}', now(), now() + interval '90 days',
             kind, value
         FROM links WHERE {link}
         ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO UPDATE SET
             value = excluded.value, collected_at = excluded.collected_at, expires_at = excluded.expires_at"
    );
    world.database.execute(&sql).await;
    world.flush_redis().await;
}

/// The caller that the edge makes of a page's call.
pub fn page(world: &World) -> Caller {
    let customer = &world.customer;
    let collect = CollectCaller {
        pipeline_key: customer.live_key.clone(),
        origin: Some(customer.origin.clone()),
        host: world.cluster.edge.addr("http").to_string(),
        ..CollectCaller::default()
    };
    Caller { kind: Some(Kind::Collect(collect)) }
}
