//! Known visitors, and delivery.

use bb8_redis::redis::{Pipeline, Value};
use identity_service::{storage::redis::keys, sync::view::View};
use proto::v1::{
    Cookie, CreateLinkRequest, CreateLinkResponse, IdentityVendorIds, Resolution, ResolveRequest,
    ResolveResponse, SameSite, VendorIdsRequest, VendorIdsResponse, identity_ref::Id,
    resolve_service_server::ResolveService,
};
use tonic::{Request, Response, Status};

use super::{Core, text};
use crate::visitors::canonical_of;

#[tonic::async_trait]
impl ResolveService for Core {
    /// The commands of a known visitor whose canonical identity was guessed.
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let subject = request.into_inner().subjects.pop().unwrap_or_default();
        let mut pipe = Pipeline::with_capacity(4);
        let anonymous_id = self.get_canonical(&mut pipe, subject.anonymous_id.unwrap_or_default());
        pipe.get(keys::consent(self.org, &anonymous_id).name);
        View::ask(&mut pipe, self.org, canonical_of(&anonymous_id), None);
        let mut answers = self.ask(&pipe).await?;
        let cookie = Cookie {
            name: "_dfid".to_owned(),
            value: anonymous_id.clone(),
            max_age_seconds: 400 * 24 * 60 * 60,
            path: "/".to_owned(),
            http_only: true,
            same_site: SameSite::Lax.into(),
            ..Cookie::default()
        };
        let resolution = Resolution {
            canonical_id: text(answers.swap_remove(0)),
            anonymous_id,
            cookies: vec![cookie],
            ..Resolution::default()
        };
        Ok(Response::new(ResolveResponse { resolutions: vec![resolution], ..ResolveResponse::default() }))
    }

    /// Answers with the fields and values that Redis holds, unparsed.
    async fn vendor_ids(
        &self,
        request: Request<VendorIdsRequest>,
    ) -> Result<Response<VendorIdsResponse>, Status> {
        let identities = request.into_inner().identities;
        let (mut pipe, mut consents) = (Pipeline::new(), Pipeline::new());
        let mut canonicals = Vec::with_capacity(identities.len());
        for identity in identities {
            match identity.id {
                Some(Id::AnonymousId(id)) => {
                    let id = self.get_canonical(&mut pipe, id);
                    consents.get(keys::consent(self.org, &id).name);
                }
                Some(Id::CanonicalId(id)) => canonicals.push(id),
                Some(Id::UserId(_)) | None => return Err(Status::unimplemented("no floor")),
            }
        }
        if canonicals.is_empty() {
            let (found, _consents) = tokio::try_join!(self.ask(&pipe), self.ask(&consents))?;
            canonicals.extend(found.into_iter().map(text));
        }
        let mut pipe = Pipeline::with_capacity(canonicals.len());
        for canonical in canonicals {
            pipe.hgetall(keys::vendor_ids(self.org, canonical.parse().unwrap_or_default()).name);
        }
        let raw = |answer| IdentityVendorIds { canonical_id: texts(answer), ..IdentityVendorIds::default() };
        let identities = self.ask(&pipe).await?.into_iter().map(raw).collect();
        Ok(Response::new(VendorIdsResponse { identities }))
    }

    async fn create_link(
        &self,
        _: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        Err(Status::unimplemented("no floor"))
    }
}

/// The fields and values of a hash, one after the other.
fn texts(value: Value) -> String {
    let Value::Array(values) = value else { return String::new() };
    let mut all = String::with_capacity(1024);
    for value in values {
        if let Value::BulkString(bytes) = value {
            all.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
        }
    }
    all
}
