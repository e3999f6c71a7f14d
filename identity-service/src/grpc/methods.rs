//! The methods of the contract: who may call each, and how long it may take. One row a method; a test demands it.

use std::time::Duration;

use crate::auth::service_token::Access;

/// Longest time of a method that is no visitor's and has no reason for another.
const DEFAULT_CAP: Duration = Duration::from_secs(3);
/// Longest time of a method that a visitor waits for.
const VISITOR_CAP: Duration = Duration::from_secs(1);
/// Longest time of an enrichment, and of its dry run: a custom provider's timeout is at most 10 s.
const ENRICH_CAP: Duration = Duration::from_millis(10_500);
/// Longest time of a profile.
const PROFILE_CAP: Duration = Duration::from_millis(2500);

/// Path, requirement on the caller and longest time of every method of ours.
const METHODS: &[(&str, Access, Duration)] = &[
    ("/datafly.identity.v1.ResolveService/Resolve", Access::Collect, VISITOR_CAP),
    ("/datafly.identity.v1.ResolveService/VendorIds", Access::Internal, DEFAULT_CAP),
    ("/datafly.identity.v1.ResolveService/CreateLink", Access::Collect, DEFAULT_CAP),
    ("/datafly.identity.v1.SyncService/PendingSyncs", Access::Collect, DEFAULT_CAP),
    ("/datafly.identity.v1.SyncService/BeginSync", Access::Collect, VISITOR_CAP),
    ("/datafly.identity.v1.SyncService/StoreSyncResult", Access::Collect, VISITOR_CAP),
    ("/datafly.identity.v1.SyncService/Explain", Access::Internal, DEFAULT_CAP),
    ("/datafly.identity.v1.EnrichService/Enrich", Access::Collect, ENRICH_CAP),
    ("/datafly.identity.v1.ProfileService/Profile", Access::Collect, PROFILE_CAP),
    ("/datafly.identity.v1.ProfileService/BatchProfile", Access::Collect, PROFILE_CAP),
    ("/datafly.identity.v1.AuthService/Authenticate", Access::Collect, DEFAULT_CAP),
    ("/datafly.identity.v1.AuthService/CheckOrigin", Access::Collect, DEFAULT_CAP),
    ("/datafly.identity.v1.AuthService/VendorCookies", Access::Collect, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/ListSyncVendors", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/ListCollectedVendors", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/ListEnrichmentVendors", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/ListProfileProviders", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/ListDestinations", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/CheckProvider", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.CatalogService/DryRunProvider", Access::Admin, ENRICH_CAP),
    ("/datafly.identity.v1.CatalogService/ProviderStatus", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.IdentityAdminService/Lookup", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.IdentityAdminService/Export", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.IdentityAdminService/Delete", Access::Admin, DEFAULT_CAP),
    ("/datafly.identity.v1.IdentityAdminService/Unmerge", Access::Admin, DEFAULT_CAP),
];

/// Requirements of the services that gRPC itself defines, by the prefix of their paths. Reflection streams as long as
/// the client likes: a cap ends at the answer's head.
const STANDARD: &[(&str, Access)] =
    &[("/grpc.health.v1.Health/", Access::Open), ("/grpc.reflection.", Access::Any)];

/// Finds the requirement and the cap of the method at `path`. A path of no method needs `admin`, so that nobody else
/// learns which there are.
pub fn rule(path: &str) -> (Access, Duration) {
    let own = METHODS.iter().find(|(own, ..)| *own == path).map(|(_, access, cap)| (*access, *cap));
    let standard = || STANDARD.iter().find(|(prefix, _)| path.starts_with(prefix));
    own.or_else(|| standard().map(|(_, access)| (*access, DEFAULT_CAP)))
        .unwrap_or((Access::Admin, DEFAULT_CAP))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::auth::service_token::Roles;

    #[test]
    fn every_method_of_the_contract_has_one_row() {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let services =
            set.file.iter().flat_map(|file| file.service.iter().map(move |own| (file.package(), own)));
        let contract: BTreeSet<String> = services
            .filter(|(package, _)| *package == "datafly.identity.v1")
            .flat_map(|(package, service)| {
                let path = move |method: &str| format!("/{package}.{}/{method}", service.name());
                service.method.iter().map(move |method| path(method.name()))
            })
            .collect();
        let rows: BTreeSet<String> = METHODS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(rows.len(), METHODS.len(), "a method has two rows");
        assert_eq!(rows, contract);
    }

    #[test]
    fn methods_need_roles() {
        let access = |method: &str| rule(&format!("/datafly.identity.v1.{method}")).0;
        let edge = Roles { edge: true, ..Roles::default() };
        assert!(access("ResolveService/Resolve").allows(edge));
        assert!(!access("ResolveService/VendorIds").allows(edge));
        assert!(!access("IdentityAdminService/Delete").allows(edge));
        assert_eq!(rule("/unknown/method").0, Access::Admin);
        assert_eq!(rule("/grpc.health.v1.Health/Check").0, Access::Open);
        assert_eq!(rule("/datafly.identity.v1.SyncService/BeginSync").1, Duration::from_secs(1));
    }
}
