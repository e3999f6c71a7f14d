//! The tenant of a call: the organisation whose data it reaches, and what its caller may say.

use std::{net::IpAddr, sync::Arc};

use serve::origin::Origin;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::signature::SignedAt;
use crate::settings::{CollectHost, Environment, Source};

/// The party for whom a call is answered.
#[derive(Debug)]
pub struct Tenant {
    /// The organisation whose data is meant.
    pub org: Uuid,
    /// The source, where a key named it. Pending syncs need one.
    pub source: Option<Arc<Source>>,
    /// True for a visitor's browser, which gets cookies, an anonymous ID where it has none, and short
    /// identifiers only.
    pub browser: bool,
    /// True where identifiers are vouched for: by a signed call, or an internal service.
    pub verified: bool,
    /// The environment that the key is for; live where a service names an organisation.
    pub environment: Environment,
    /// Address of the browser; none where it is not known, and for servers and services.
    pub client_ip: Option<String>,
    /// Network of the browser, by which the identities that it brings are counted; none where they are not.
    pub network: Option<IpAddr>,
    /// User-Agent of the browser; none where it sent none, and for services.
    pub user_agent: Option<String>,
    /// Time at which a signed call was signed; none for browsers and services.
    pub signed_at: Option<SignedAt>,
    /// Origins of all pages of the organisation's.
    pub own_origins: Arc<[Origin]>,
    /// The collect host of the source that was called, or that stands for it.
    pub host: Option<Arc<CollectHost>>,
    /// The place of a key's call in its organisation's share, for as long as it lasts.
    pub place: Option<OwnedSemaphorePermit>,
}
