//! Calls to the core, over one HTTP/2 channel for each of its addresses and each thread here.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::{
    Reason,
    v1::{
        AuthenticateRequest, AuthenticateResponse, BeginSyncRequest, BeginSyncResponse, CheckOriginRequest,
        CheckOriginResponse, CreateLinkRequest, CreateLinkResponse, EnrichRequest, EnrichResponse,
        ErrorReason, ProfileRequest, ProfileResponse, ResolveRequest, ResolveResponse,
        StoreSyncResultRequest, StoreSyncResultResponse, VendorCookiesRequest, VendorCookiesResponse,
        auth_service_client::AuthServiceClient, enrich_service_client::EnrichServiceClient,
        profile_service_client::ProfileServiceClient, resolve_service_client::ResolveServiceClient,
        sync_service_client::SyncServiceClient,
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::{
    ConnectError, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::finish_on_drop::FinishOnDrop;

/// Deadline of a call: sent to the core, and kept here as well.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of a call that waits for others: the core takes at most 10 s for a provider, and something for itself.
const PATIENT_TIMEOUT: Duration = Duration::from_millis(10_500);
/// Most calls that callers on one thread wait for at once. More are refused: they would only wait here, and
/// in the core, which takes 4,096 from all of its edges.
const MAX_CALLS: usize = 1024;
/// Most calls at once over one connection, which is as many as the core takes there; others wait here.
const MAX_STREAMS: usize = 256;

/// W3C `traceparent` of the request being served, where there is one.
pub type Trace = Option<MetadataValue<Ascii>>;

/// Client of the core, whichever instance answers.
#[derive(Clone)]
pub struct CoreClient {
    endpoints: Arc<[CoreEndpoint]>,
    next: Arc<AtomicUsize>,
    calls: Arc<Semaphore>,
    timeout: Duration,
    token: MetadataValue<Ascii>,
}

impl CoreClient {
    /// Connects to `cores` on first use. `token` is the whole `authorization` value.
    pub fn new(cores: &[Endpoint], token: MetadataValue<Ascii>) -> Self {
        // One for each address and thread (`serve::workers`): calls that share a connection share its system
        // calls, and a call costs this side more than it does the core's, so none of them is too much for one
        // thread there.
        let endpoints = cores.iter().map(CoreEndpoint::new).collect();
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        Self { endpoints, next: Arc::default(), calls, timeout: CALL_TIMEOUT, token }
    }

    /// Connects to `cores` for calls that may take as long as a customer's own service does. They have connections of
    /// their own, so that none of them keeps a visitor's event waiting.
    pub fn patient(cores: &[Endpoint], token: MetadataValue<Ascii>) -> Self {
        Self { timeout: PATIENT_TIMEOUT, ..Self::new(cores, token) }
    }

    /// Calls the core. A call that was sent goes on when its caller has gone: to cancel it would be a reset,
    /// of which the core takes only so many on a connection before it closes it, and with a crowd of clients
    /// that leaves, everybody else's calls would end.
    async fn call<M, R, F>(
        &self,
        rpc: &'static str,
        trace: &Trace,
        message: M,
        send: impl Fn(Channel, Request<M>) -> F + Copy + Send + 'static,
    ) -> Result<R, Status>
    where
        M: Clone + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let Ok(_place) = self.calls.try_acquire() else {
            return Err(Reason::of(ErrorReason::Overloaded).status(None));
        };
        let until = Instant::now() + self.timeout;
        let attempt = async |turn| {
            let endpoint = self.endpoint(turn)?;
            let stream = endpoint.stream(until).await?;
            let (channel, request) = (endpoint.channel.clone(), self.request(trace, message.clone()));
            let call = async move {
                let _stream = stream;
                timeout_at(until, send(channel, request)).await.unwrap_or_else(|_| Err(late()))
            };
            FinishOnDrop::new(call).await
        };
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let result = match attempt(first).await {
            Err(status) if was_not_sent(&status) => attempt(first.wrapping_add(1)).await,
            result => result,
        };
        if let Err(status) = &result
            && proto::reason_of(status).is_none()
        {
            serve::warn_on_change!(WARN, rpc, code = ?status.code(), said = status.message(), "the core failed");
            metrics::counter!("datafly_core_failures_total", "rpc" => rpc).increment(1);
        }
        result.map(Response::into_inner)
    }

    fn endpoint(&self, turn: usize) -> Result<&CoreEndpoint, Status> {
        let turn = turn % self.endpoints.len().max(1);
        self.endpoints.get(turn).ok_or_else(|| Status::unavailable("no core is configured"))
    }

    fn request<M>(&self, trace: &Trace, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.token.clone());
        if let Some(trace) = trace {
            metadata.insert("traceparent", trace.clone());
        }
        request
    }
}

/// Connection to one core, made on first use.
struct CoreEndpoint {
    channel: Channel,
    streams: Arc<Semaphore>,
}

impl CoreEndpoint {
    fn new(core: &Endpoint) -> Self {
        Self { channel: core.connect_lazy(), streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Takes a place for one call over the connection. A caller that waits for it has sent nothing yet, and
    /// may go.
    async fn stream(&self, until: Instant) -> Result<OwnedSemaphorePermit, Status> {
        if let Ok(stream) = self.streams.clone().try_acquire_owned() {
            return Ok(stream);
        }
        let waiting = timeout_at(until, self.streams.clone().acquire_owned()).await;
        waiting.ok().and_then(Result::ok).ok_or_else(late)
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the core did not answer in time")
}

proto::rpc_methods! {
    CoreClient(trace: &Trace) -> Status;
    /// Resolves a request's subjects to identities.
    resolve, ResolveServiceClient(ResolveRequest) -> ResolveResponse;
    /// Authenticates the caller where there is nothing to resolve.
    authenticate, AuthServiceClient(AuthenticateRequest) -> AuthenticateResponse;
    /// Asks if pages of an origin may call a host.
    check_origin, AuthServiceClient(CheckOriginRequest) -> CheckOriginResponse;
    /// Asks for the names of the vendors' cookies.
    vendor_cookies, AuthServiceClient(VendorCookiesRequest) -> VendorCookiesResponse;
    /// Makes a token for a link to another domain of the customer.
    create_link, ResolveServiceClient(CreateLinkRequest) -> CreateLinkResponse;
    /// Asks a provider for an ID of a visitor.
    enrich, EnrichServiceClient(EnrichRequest) -> EnrichResponse;
    /// Asks for the profile of a visitor.
    profile, ProfileServiceClient(ProfileRequest) -> ProfileResponse;
    /// Asks where to send the browser for a sync.
    begin_sync, SyncServiceClient(BeginSyncRequest) -> BeginSyncResponse;
    /// Hands on what the vendor sent back to the callback.
    store_sync_result, SyncServiceClient(StoreSyncResultRequest) -> StoreSyncResultResponse;
}

/// True where nothing was sent: no connection was had, or it closed while the call waited to be sent, as when
/// a core is restarted. Anything later may have had its effect already.
fn was_not_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() || error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}
