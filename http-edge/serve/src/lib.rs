//! Common ground of the four binaries: the accept loop with its deadlines and drain, the metrics listener,
//! the environment, telemetry and the life of the process. Knows no route and no domain rule.

pub mod accept;
pub mod address;
mod authority;
mod background;
pub mod catalogue;
mod discard;
pub mod env;
mod error_body;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod lifecycle;
mod limits;
pub mod metrics;
mod networks;
pub mod origin;
pub mod process;
pub mod proxies;
pub mod telemetry;
pub mod tls;
mod warn_on_change;
pub mod workers;

pub use accept::{Exempt, ReceivedBody, Voucher, bind, serve, serve_tls};
pub use authority::Authority;
pub use discard::discard;
pub use env::{Env, EnvError};
pub use error_body::error_body;
pub use lifecycle::Lifecycle;
pub use networks::{BadNetworks, Networks};
pub use proxies::TrustedProxies;
pub use warn_on_change::FailureState;
pub use workers::{Serve, Workers};

/// Allocator of all four binaries. gRPC and JSON are many small allocations: with mimalloc the core takes
/// about a quarter less CPU a request than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
