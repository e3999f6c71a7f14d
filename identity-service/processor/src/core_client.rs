//! Calls to the identity core, which alone knows people and their consent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::v1::{
    BatchProfileRequest, BatchProfileResponse, VendorIdsRequest, VendorIdsResponse,
    profile_service_client::ProfileServiceClient, resolve_service_client::ResolveServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Deadline of a call: a page of profiles may wait for the provider.
const DEADLINE: Duration = Duration::from_secs(3);

/// Client of the core, whichever instance answers. Clones share connections.
#[derive(Clone)]
pub struct CoreClient {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    token: MetadataValue<Ascii>,
}

impl CoreClient {
    /// Connects to `cores` on first use. `token` is the whole `authorization` value.
    pub fn new(cores: &[Endpoint], token: MetadataValue<Ascii>) -> Self {
        Self { channels: cores.iter().map(Endpoint::connect_lazy).collect(), next: Arc::default(), token }
    }

    /// Makes a call, and at the next core once more where one can't be reached: nothing is changed by any.
    async fn call<M: Clone, R, F>(
        &self,
        rpc: &'static str,
        message: M,
        send: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut result = Err(Status::unavailable("no core is configured"));
        for _ in 0..2 {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
            let Some(channel) = self.channels.get(turn).cloned() else { break };
            let mut request = Request::new(message.clone());
            request.set_timeout(DEADLINE);
            request.metadata_mut().insert("authorization", self.token.clone());
            let late = || Status::deadline_exceeded("the core did not answer in time");
            let call = tokio::time::timeout(DEADLINE, send(channel, request));
            result = call.await.unwrap_or_else(|_| Err(late()));
            match &result {
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                _ => break,
            }
        }
        if let Err(status) = &result {
            serve::warn_on_change!(WARN, rpc, code = ?status.code(), said = status.message(), "the core failed");
            metrics::counter!("datafly_core_failures_total", "rpc" => rpc).increment(1);
        }
        result.map(Response::into_inner)
    }
}

proto::rpc_methods! {
    CoreClient() -> Status;
    /// Asks for vendor IDs, match keys and consent of the people of a page.
    vendor_ids, ResolveServiceClient(VendorIdsRequest) -> VendorIdsResponse;
    /// Asks for the profiles of the people of a page.
    batch_profile, ProfileServiceClient(BatchProfileRequest) -> BatchProfileResponse;
}
