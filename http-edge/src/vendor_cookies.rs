//! The names of the vendors' cookies, which the core knows. It is asked before the first request that brings
//! cookies is answered, and now and then again, as another core may know more vendors.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use proto::{
    Reason,
    v1::{ErrorReason, VendorCookiesRequest},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{core_client::CoreClient, finish_on_drop::FinishOnDrop};

/// Pause between two questions to the core.
const REFRESH_PERIOD: Duration = Duration::from_mins(1);
/// Pause between two questions while no core has answered yet.
const FIRST_PERIOD: Duration = Duration::from_secs(1);

/// Names of cookies, each once.
pub type Names = Arc<Vec<String>>;

/// No names, for requests that can have no vendor's cookie.
static NONE: LazyLock<Names> = LazyLock::new(Arc::default);

/// The names, shared by all threads; none before a core has told them.
#[derive(Clone, Default)]
pub struct VendorCookies {
    names: Arc<ArcSwapOption<Vec<String>>>,
    asking: Arc<Mutex<()>>,
}

impl VendorCookies {
    /// No names at all.
    pub fn none() -> Names {
        NONE.clone()
    }

    /// The names, asked of the core where none has told them yet: by one request for all that wait, so that none
    /// waits for more than one call. An error is the core's: without the names a visitor's cookies would look
    /// lost, and the core would replace them.
    pub async fn names(&self, core: &CoreClient) -> Result<Names, Status> {
        if let Some(names) = self.names.load_full() {
            return Ok(names);
        }
        if let Ok(asking) = self.asking.clone().try_lock_owned() {
            let (own, core) = (self.clone(), core.clone());
            // Whoever asks for others may leave; the answer is theirs all the same.
            let ask = async move {
                let _asking = asking;
                own.ask(&core).await
            };
            return FinishOnDrop::new(ask).await;
        }
        let _asked = self.asking.lock().await;
        self.names.load_full().ok_or_else(unavailable)
    }

    /// Asks at once and every [`REFRESH_PERIOD`] until `stop`. While the core is away the names stay.
    pub async fn refresh_until(self, core: CoreClient, stop: CancellationToken) {
        loop {
            if let Err(status) = self.ask(&core).await {
                tracing::debug!(code = ?status.code(), "the vendors' cookies can't be asked for");
            }
            let pause = if self.names.load().is_some() { REFRESH_PERIOD } else { FIRST_PERIOD };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks a core, and adds what it names. Names are never taken back: while cores of two versions serve, the
    /// older one would take from the newer the cookies that it alone knows.
    pub async fn ask(&self, core: &CoreClient) -> Result<Names, Status> {
        let answer = core.vendor_cookies(&None, VendorCookiesRequest {}).await;
        let told = answer.map_err(|status| match status.code() {
            // A core of before this rpc: another may know it, or this one after its upgrade.
            Code::Unimplemented => unavailable(),
            _ => status,
        })?;
        let before = self.names.load_full();
        let mut names = before.as_deref().cloned().unwrap_or_default();
        names.extend(told.names);
        names.sort_unstable();
        names.dedup();
        let names = match before {
            Some(before) if *before == names => before,
            _ => Arc::new(names),
        };
        self.names.store(Some(names.clone()));
        Ok(names)
    }
}

fn unavailable() -> Status {
    Reason::of(ErrorReason::Unavailable).status(None)
}
