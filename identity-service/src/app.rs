//! The core, built once at the start: what its doors call.

use crate::{
    egress::openings::Openings, identity_admin::IdentityAdmin, resolve::Resolver, settings::Settings,
    storage::Stores, sync::GatewaySync,
};

/// The identity core, with a field for each feature.
pub struct App {
    /// The stores, PostgreSQL and Redis.
    pub stores: Stores,
    /// The settings that customers made.
    pub settings: Settings,
    /// The resolver of browsers and users.
    pub resolver: Resolver,
    /// The gateway sync of vendors.
    pub sync: GatewaySync,
    /// The administration of people.
    pub identity_admin: IdentityAdmin,
    /// Networks and hosts that calls for customers may go to beside public hosts.
    pub openings: Openings,
}
