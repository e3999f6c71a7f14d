//! Calls about people, as services make them: over any core, in any organisation.

use proto::v1::{
    Caller, DeleteRequest, IdentityRef, IdentityVendorIds, LookupRequest, Person, Resolution, ResolveRequest,
    Subject, UnmergeRequest, VendorIdsRequest, caller::Kind, identity_ref::Id,
};
use tonic::Status;

use crate::{grpc::Api, world::World};

/// An operator of one organisation: reaches every core with the roles `internal` and `admin`.
#[derive(Debug, Clone)]
pub struct People {
    cores: Vec<Api>,
    org: String,
}

impl People {
    /// An operator of the organisation of the world's customer.
    pub fn of(world: &World) -> Self {
        Self::in_org(world, &world.customer.org_id.to_string())
    }

    /// An operator of the organisation with the ID `org`.
    pub fn in_org(world: &World, org: &str) -> Self {
        let token = &world.cluster.secrets.operator_token;
        let cores = (0..world.cluster.cores.len()).map(|core| world.cluster.api(core, token).unwrap());
        Self { cores: cores.collect(), org: org.to_owned() }
    }

    fn core(&self, core: usize) -> &Api {
        &self.cores[core % self.cores.len()]
    }

    /// Resolves subjects, in one call.
    pub async fn resolve(&self, core: usize, subjects: Vec<Subject>) -> Result<Vec<Resolution>, Status> {
        let caller = Some(Caller { kind: Some(Kind::OrgId(self.org.clone())) });
        let request = ResolveRequest { caller, subjects };
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

    /// Vendor IDs of each identity, as delivery gets them from a core.
    pub async fn vendor_ids(&self, core: usize, identities: Vec<Id>) -> Vec<IdentityVendorIds> {
        let identities = identities.into_iter().map(|id| IdentityRef { id: Some(id) }).collect();
        let request = VendorIdsRequest { org_id: self.org.clone(), identities, fields: Vec::new() };
        self.core(core).resolve().vendor_ids(request).await.unwrap().into_inner().identities
    }

    /// Vendor IDs of one identity, on which all cores must agree.
    pub async fn delivered(&self, id: Id) -> IdentityVendorIds {
        let mut answers = Vec::new();
        for core in 0..self.cores.len() {
            answers.extend(self.vendor_ids(core, vec![id.clone()]).await);
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
        let request =
            LookupRequest { org_id: self.org.clone(), identity: Some(IdentityRef { id: Some(id) }) };
        Ok(self.core(0).people().lookup(request).await?.into_inner().person.unwrap())
    }

    /// Erases the person whom an ID names.
    pub async fn delete(&self, core: usize, id: Id) -> Result<(), Status> {
        let request =
            DeleteRequest { org_id: self.org.clone(), identity: Some(IdentityRef { id: Some(id) }) };
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

/// Stores a vendor ID that a sync might have brought, and has Redis forget what it knew of the person.
pub async fn give(world: &World, canonical: &str, field: &str, value: &str) {
    let sql = format!(
        "INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at)
         SELECT org_id, id, '{field}', '{value}', 'sync', now(), now() + interval '90 days'
         FROM canonicals WHERE id = '{canonical}'
         ON CONFLICT (org_id, canonical_id, field) DO UPDATE SET
             value = excluded.value, collected_at = excluded.collected_at"
    );
    world.database.execute(&sql).await;
    world.flush_redis().await;
}
