//! The core, built once at the start: what its doors call.

use crate::{
    delivery::Keeper, enrich::Enrichment, identity_admin::IdentityAdmin, profile::Profiles,
    resolve::Resolver, settings::Settings, storage::Stores, sync::GatewaySync,
};

/// The identity core, with a field for each feature.
pub struct App {
    /// The stores, PostgreSQL and Redis.
    pub stores: Stores,
    /// The settings that customers made.
    pub settings: Settings,
    /// The resolver of browsers and users.
    pub resolver: Resolver,
    /// The keeper of events that are to be delivered.
    pub keeper: Keeper,
    /// The gateway sync of vendors.
    pub sync: GatewaySync,
    /// The administration of people.
    pub identity_admin: IdentityAdmin,
    /// Server-proxied enrichment.
    pub enrichment: Enrichment,
    /// Profiles of customer data platforms.
    pub profiles: Profiles,
}
