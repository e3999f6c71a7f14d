//! A core that answers as it is told, and keeps what it was asked.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{
    Reason,
    v1::{
        AuthenticateRequest, AuthenticateResponse, BeginSyncRequest, BeginSyncResponse, CheckOriginRequest,
        CheckOriginResponse, Cookie, CreateLinkRequest, CreateLinkResponse, ErrorReason, ExplainRequest,
        ExplainResponse, PendingSyncsRequest, PendingSyncsResponse, Refusal, RefusalReason, Resolution,
        ResolutionError, ResolveRequest, ResolveResponse, SameSite, StoreSyncResultRequest,
        StoreSyncResultResponse, SyncRedirect, SyncRefusal, VendorCookiesRequest, VendorCookiesResponse,
        VendorIdsRequest, VendorIdsResponse, Warning, WarningCode, auth_service_server::AuthService,
        begin_sync_response::Outcome, caller::Kind, resolve_service_server::ResolveService,
        sync_service_server::SyncService,
    },
};
use tonic::{Code, Response as Answer, Status};

use super::ORIGIN;

/// Fake core with a record of what it was asked.
#[derive(Clone, Default)]
pub(super) struct FakeCore(Arc<Mutex<Asked>>);

pub(super) struct Asked {
    pub(super) resolve: Vec<ResolveRequest>,
    pub(super) authenticate: usize,
    /// Number of requests that were asked about before their body.
    pub(super) announced: usize,
    pub(super) vendor_cookies: usize,
    /// The answer to whoever asks for the vendors' cookies.
    pub(super) cookie_names: Result<Vec<String>, Status>,
    /// The Domain of the cookie `_dfid` that it sets.
    pub(super) cookie_domain: Option<String>,
    pub(super) begin: Vec<BeginSyncRequest>,
    pub(super) store: Vec<StoreSyncResultRequest>,
    pub(super) traces: Vec<Option<String>>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            resolve: Vec::new(),
            authenticate: 0,
            announced: 0,
            vendor_cookies: 0,
            cookie_names: Ok(vec!["_ga".into()]),
            cookie_domain: None,
            begin: Vec::new(),
            store: Vec::new(),
            traces: Vec::new(),
        }
    }
}

impl FakeCore {
    pub(super) fn asked<T>(&self, read: impl FnOnce(&mut Asked) -> T) -> T {
        read(&mut self.0.lock().unwrap())
    }
}

/// Answers for a key: `bad` is unknown, `limited` is over its rate, `slow` is never answered.
async fn check_key(caller: Option<&proto::v1::Caller>) -> Result<(), Status> {
    let Some(Kind::Collect(caller)) = caller.and_then(|caller| caller.kind.as_ref()) else {
        return Err(Reason::of(ErrorReason::InvalidArgument).status(None));
    };
    match caller.pipeline_key.as_str() {
        "" | "bad" => Err(Reason::of(ErrorReason::InvalidPipelineKey).status(None)),
        "slow" => std::future::pending().await,
        "limited" => Err(Reason::of(ErrorReason::RateLimited).status_after(Duration::from_millis(20_100))),
        "denied" => Err(Reason::of(ErrorReason::RoleNotAllowed).status(None)),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl ResolveService for FakeCore {
    async fn resolve(
        &self,
        request: tonic::Request<ResolveRequest>,
    ) -> Result<Answer<ResolveResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer token");
        assert!(request.metadata().contains_key("grpc-timeout"));
        let trace = request.metadata().get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
        let request = request.into_inner();
        self.asked(|asked| {
            asked.traces.push(trace);
            asked.resolve.push(request.clone());
        });
        check_key(request.caller.as_ref()).await?;
        let domain = self.asked(|asked| asked.cookie_domain.clone());
        let resolution = |subject: &proto::v1::Subject| {
            let reason = match subject.user_id.as_deref() {
                Some("away") => Some(ErrorReason::Unavailable),
                Some("one too many") => Some(ErrorReason::RateLimited),
                _ => None,
            };
            let refusal = |identifier: &str, reason: RefusalReason| Refusal {
                identifier: identifier.to_owned(),
                reason: reason.into(),
            };
            let is_junk = subject.user_id.as_deref() == Some("junk");
            let refusals = vec![
                refusal("user_id", RefusalReason::Junk),
                refusal("cookie_anonymous_id", RefusalReason::Junk),
                refusal("user_hash", RefusalReason::InvalidProof),
                refusal("user_id", RefusalReason::TooManyLinks),
            ];
            let left_out =
                |code: WarningCode, member: &str| Warning { code: code.into(), member: member.to_owned() };
            let warnings = vec![
                left_out(WarningCode::MemberLeftOut, "traits.phone"),
                left_out(WarningCode::Placeholder, "userId"),
            ];
            Resolution {
                refusals: if is_junk { refusals } else { Vec::new() },
                warnings: if is_junk { warnings } else { Vec::new() },
                anonymous_id: subject.anonymous_id.clone().unwrap_or_else(|| "minted".into()),
                error: reason.map(|reason| ResolutionError {
                    reason: reason.into(),
                    message: String::new(),
                    retry: true,
                }),
                pending_syncs: vec![proto::v1::PendingSync {
                    vendor: "pinterest".into(),
                    url: "/v1/sync/pinterest".into(),
                    partner_id: "26".into(),
                }],
                cookies: vec![Cookie {
                    name: "_dfid".into(),
                    value: subject.anonymous_id.clone().unwrap_or_else(|| "minted".into()),
                    path: "/".into(),
                    domain: domain.clone(),
                    ..Cookie::default()
                }],
                ..Resolution::default()
            }
        };
        Ok(Answer::new(ResolveResponse {
            resolutions: request.subjects.iter().map(resolution).collect(),
            ..ResolveResponse::default()
        }))
    }

    async fn vendor_ids(
        &self,
        _: tonic::Request<VendorIdsRequest>,
    ) -> Result<Answer<VendorIdsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_link(
        &self,
        request: tonic::Request<CreateLinkRequest>,
    ) -> Result<Answer<CreateLinkResponse>, Status> {
        let link_token = format!("token of {}", request.into_inner().cookie_anonymous_id);
        Ok(Answer::new(CreateLinkResponse { link_token }))
    }
}

#[tonic::async_trait]
impl AuthService for FakeCore {
    async fn authenticate(
        &self,
        request: tonic::Request<AuthenticateRequest>,
    ) -> Result<Answer<AuthenticateResponse>, Status> {
        let AuthenticateRequest { caller, before_body } = request.into_inner();
        self.asked(|asked| *if before_body { &mut asked.announced } else { &mut asked.authenticate } += 1);
        let caller = caller.map(crate::caller::message);
        match check_key(caller.as_ref()).await {
            // What costs nothing is over no rate.
            Err(status) if !(before_body && status.code() == Code::ResourceExhausted) => Err(status),
            _ => Ok(Answer::new(AuthenticateResponse::default())),
        }
    }

    async fn check_origin(
        &self,
        request: tonic::Request<CheckOriginRequest>,
    ) -> Result<Answer<CheckOriginResponse>, Status> {
        let allowed = request.get_ref().origin == ORIGIN && request.get_ref().host == "collect.example";
        Ok(Answer::new(CheckOriginResponse { allowed }))
    }

    async fn vendor_cookies(
        &self,
        _: tonic::Request<VendorCookiesRequest>,
    ) -> Result<Answer<VendorCookiesResponse>, Status> {
        let names = self.asked(|asked| {
            asked.vendor_cookies += 1;
            asked.cookie_names.clone()
        });
        names.map(|names| Answer::new(VendorCookiesResponse { names }))
    }
}

#[tonic::async_trait]
impl SyncService for FakeCore {
    async fn pending_syncs(
        &self,
        _: tonic::Request<PendingSyncsRequest>,
    ) -> Result<Answer<PendingSyncsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_sync(
        &self,
        request: tonic::Request<BeginSyncRequest>,
    ) -> Result<Answer<BeginSyncResponse>, Status> {
        let request = request.into_inner();
        check_key(request.caller.as_ref()).await?;
        self.asked(|asked| asked.begin.push(request.clone()));
        let outcome = match request.vendor.as_str() {
            "pinterest" => Outcome::Redirect(SyncRedirect {
                location: "https://ct.pinterest.com/user/?tid=1".into(),
                state_cookie: Some(Cookie {
                    name: "_dfs_pinterest".into(),
                    value: "state".into(),
                    path: "/v1/sync/pinterest".into(),
                    secure: true,
                    same_site: SameSite::None.into(),
                    ..Cookie::default()
                }),
            }),
            "criteo" => Outcome::Refusal(SyncRefusal::Consent.into()),
            _ => return Err(Reason::of(ErrorReason::VendorNotFound).status(None)),
        };
        Ok(Answer::new(BeginSyncResponse { outcome: Some(outcome) }))
    }

    async fn store_sync_result(
        &self,
        request: tonic::Request<StoreSyncResultRequest>,
    ) -> Result<Answer<StoreSyncResultResponse>, Status> {
        self.asked(|asked| asked.store.push(request.into_inner()));
        Ok(Answer::new(StoreSyncResultResponse::default()))
    }

    async fn explain(&self, _: tonic::Request<ExplainRequest>) -> Result<Answer<ExplainResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
