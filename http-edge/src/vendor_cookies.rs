//! The names of the vendors' cookies, which the core knows. It is asked before the first request that brings
//! cookies is answered, and now and then again, as another core may know more vendors.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use proto::v1::VendorCookiesRequest;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::core_client::CoreClient;

/// Pause between two questions to the core.
const REFRESH_PERIOD: Duration = Duration::from_mins(1);

/// The names, shared by all threads; none before the core has told them.
#[derive(Clone, Default)]
pub struct VendorCookies(Arc<ArcSwapOption<Vec<String>>>);

impl VendorCookies {
    /// The names, asked of the core where it has not told them yet. An error is the core's: without the names a
    /// visitor's cookies would look lost, and the core would replace them.
    pub async fn names(&self, core: &CoreClient) -> Result<Arc<Vec<String>>, Status> {
        match self.0.load_full() {
            Some(names) => Ok(names),
            None => self.refresh(core).await,
        }
    }

    /// Asks again every [`REFRESH_PERIOD`] until `stop`. While the core is away the names stay.
    pub async fn refresh_until(self, core: CoreClient, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH_PERIOD) => {}
            }
            if let Err(status) = self.refresh(&core).await {
                tracing::debug!(code = ?status.code(), "the vendors' cookies can't be asked for");
            }
        }
    }

    async fn refresh(&self, core: &CoreClient) -> Result<Arc<Vec<String>>, Status> {
        let names = Arc::new(core.vendor_cookies(&None, VendorCookiesRequest {}).await?.names);
        self.0.store(Some(names.clone()));
        Ok(names)
    }
}
