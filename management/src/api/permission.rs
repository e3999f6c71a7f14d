//! Permissions as data: roles, what they may, and what each route needs. A route that is not listed here is
//! refused to everyone; a test compares the list with the API's document.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Role of a user in their organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything, owners included.
    Owner,
    /// May do everything but make, change and remove owners.
    Admin,
    /// Changes settings and credentials, but removes nothing that a source needs to collect.
    Editor,
    /// Reads settings, and changes nothing.
    Viewer,
}

impl Role {
    /// Name of the role, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
        }
    }

    /// Gives the role of that name, if there is one.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Owner, Self::Admin, Self::Editor, Self::Viewer].into_iter().find(|role| role.name() == name)
    }

    /// Tells whether someone of this role may do it.
    pub fn may(self, permission: Permission) -> bool {
        let (_, roles) = permission.row();
        roles.contains(&self)
    }

    /// Tells whether someone of this role may make, change or remove someone who is `other`, as far as that
    /// goes: an owner is for owners alone.
    pub fn may_touch(self, other: Self) -> bool {
        other != Self::Owner || self == Self::Owner
    }

    /// Permissions that someone of this role has, by the names of the API's document, sorted.
    pub fn permissions(self) -> Vec<&'static str> {
        let own = ROUTES.iter().map(|(_, _, permission)| permission.row());
        let names: BTreeSet<_> =
            own.filter(|(_, roles)| roles.contains(&self)).map(|(name, _)| name).collect();
        names.into_iter().filter(|name| *name != Permission::Public.row().0).collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Permission that a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Needs no login: open to anyone.
    Public,
    /// Needs a login, of whatever role.
    LoggedIn,
    /// Sees settings and the catalogue.
    ReadSettings,
    /// Changes settings and credentials.
    WriteSettings,
    /// Takes away what keeps a source collecting: the source, its keys, its server secret.
    DeleteSettings,
    /// Is told server secrets.
    RevealSecrets,
    /// Sees who uses the API.
    ReadUsers,
    /// Changes who uses the API.
    WriteUsers,
    /// Looks visitors up, by their IDs.
    ReadPeople,
    /// Exports, erases and takes apart visitors.
    WritePeople,
    /// Reads what was changed by whom.
    ReadAudit,
    /// Seals everything with a new key.
    Reencrypt,
}

impl Permission {
    /// Name of the permission in the API's document, and the roles that have it.
    pub const fn row(self) -> (&'static str, &'static [Role]) {
        use Role::{Admin, Editor, Owner, Viewer};
        match self {
            Self::Public => ("public", &[Owner, Admin, Editor, Viewer]),
            Self::LoggedIn => ("self", &[Owner, Admin, Editor, Viewer]),
            Self::ReadSettings => ("settings:read", &[Owner, Admin, Editor, Viewer]),
            Self::WriteSettings => ("settings:write", &[Owner, Admin, Editor]),
            Self::DeleteSettings => ("settings:delete", &[Owner, Admin]),
            Self::RevealSecrets => ("secrets:reveal", &[Owner, Admin]),
            Self::ReadUsers => ("users:read", &[Owner, Admin]),
            Self::WriteUsers => ("users:write", &[Owner, Admin]),
            Self::ReadPeople => ("people:read", &[Owner, Admin, Editor]),
            Self::WritePeople => ("people:write", &[Owner, Admin]),
            Self::ReadAudit => ("audit:read", &[Owner, Admin]),
            Self::Reencrypt => ("crypto:write", &[Owner, Admin]),
        }
    }
}

/// Number of routes that have a row.
#[cfg(test)]
pub fn rows() -> usize {
    ROUTES.len()
}

/// Permission that `method` of the route at `path` (its pattern, `/v1/admin/sources/{id}`) needs; none where
/// it is not listed.
pub fn needed(method: &str, path: &str) -> Option<Permission> {
    let row = ROUTES.iter().find(|(own_method, own_path, _)| *own_method == method && *own_path == path);
    row.map(|(_, _, permission)| *permission)
}

use Permission as P;

/// Routes of the API's document, all of them.
#[rustfmt::skip]
pub const ROUTES: &[(&str, &str, Permission)] = &[
    ("POST",   "/v1/admin/auth/login", P::Public),
    ("POST",   "/v1/admin/auth/refresh", P::Public),
    ("POST",   "/v1/admin/auth/logout", P::LoggedIn),
    ("GET",    "/v1/admin/me", P::LoggedIn),
    ("PUT",    "/v1/admin/me/password", P::LoggedIn),
    ("GET",    "/v1/admin/users", P::ReadUsers),
    ("POST",   "/v1/admin/users", P::WriteUsers),
    ("GET",    "/v1/admin/users/{id}", P::ReadUsers),
    ("PUT",    "/v1/admin/users/{id}", P::WriteUsers),
    ("DELETE", "/v1/admin/users/{id}", P::WriteUsers),
    ("PUT",    "/v1/admin/users/{id}/password", P::WriteUsers),
    ("GET",    "/v1/admin/sources", P::ReadSettings),
    ("POST",   "/v1/admin/sources", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}", P::DeleteSettings),
    ("GET",    "/v1/admin/sources/{id}/keys", P::ReadSettings),
    ("POST",   "/v1/admin/sources/{id}/keys", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}/keys/{key_id}", P::DeleteSettings),
    ("GET",    "/v1/admin/sources/{id}/server-secret", P::ReadSettings),
    ("POST",   "/v1/admin/sources/{id}/server-secret", P::DeleteSettings),
    ("DELETE", "/v1/admin/sources/{id}/server-secret", P::DeleteSettings),
    ("POST",   "/v1/admin/sources/{id}/server-secret/reveal", P::RevealSecrets),
    ("GET",    "/v1/admin/pipelines", P::ReadSettings),
    ("GET",    "/v1/admin/pipelines/{id}", P::ReadSettings),
    ("PUT",    "/v1/admin/pipelines/{id}", P::WriteSettings),
    ("GET",    "/v1/admin/pipelines/{id}/csp", P::ReadSettings),
    ("GET",    "/v1/admin/pipelines/{id}/identity-sources", P::ReadSettings),
    ("GET",    "/v1/admin/pipelines/{id}/identity-sources/{vendor}", P::ReadSettings),
    ("PUT",    "/v1/admin/pipelines/{id}/identity-sources/{vendor}", P::WriteSettings),
    ("DELETE", "/v1/admin/pipelines/{id}/identity-sources/{vendor}", P::WriteSettings),
    ("GET",    "/v1/admin/pipelines/{id}/generated-ids", P::ReadSettings),
    ("GET",    "/v1/admin/pipelines/{id}/generated-ids/{vendor}", P::ReadSettings),
    ("PUT",    "/v1/admin/pipelines/{id}/generated-ids/{vendor}", P::WriteSettings),
    ("DELETE", "/v1/admin/pipelines/{id}/generated-ids/{vendor}", P::WriteSettings),
    ("GET",    "/v1/admin/catalog/sync-vendors", P::ReadSettings),
    ("GET",    "/v1/admin/catalog/enrichment-vendors", P::ReadSettings),
    ("GET",    "/v1/admin/catalog/generated-ids", P::ReadSettings),
    ("GET",    "/v1/admin/catalog/profile-providers", P::ReadSettings),
    ("GET",    "/v1/admin/sources/{id}/enrichment", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}/enrichment", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/enrichment/{vendor}", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}/enrichment/{vendor}", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}/enrichment/{vendor}", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/enrichment/{vendor}/status", P::ReadSettings),
    ("POST",   "/v1/admin/sources/{id}/enrichment/{vendor}/dry-run", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/custom-providers", P::ReadSettings),
    ("GET",    "/v1/admin/sources/{id}/custom-providers/{name}", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}/custom-providers/{name}", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}/custom-providers/{name}", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/custom-providers/{name}/status", P::ReadSettings),
    ("POST",   "/v1/admin/sources/{id}/custom-providers/{name}/dry-run", P::WriteSettings),
    ("POST",   "/v1/admin/sources/{id}/profile-providers/amperity/dry-run", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/profile-providers/amperity", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}/profile-providers/amperity", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}/profile-providers/amperity", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/profile-providers/amperity/status", P::ReadSettings),
    ("GET",    "/v1/admin/catalog/destinations", P::ReadSettings),
    ("GET",    "/v1/admin/sources/{id}/destinations", P::ReadSettings),
    ("GET",    "/v1/admin/sources/{id}/destinations/{vendor}", P::ReadSettings),
    ("PUT",    "/v1/admin/sources/{id}/destinations/{vendor}", P::WriteSettings),
    ("DELETE", "/v1/admin/sources/{id}/destinations/{vendor}", P::DeleteSettings),
    ("GET",    "/v1/admin/sources/{id}/destinations/{vendor}/status", P::ReadSettings),
    ("POST",   "/v1/admin/sources/{id}/destinations/{vendor}/pause", P::WriteSettings),
    ("POST",   "/v1/admin/sources/{id}/destinations/{vendor}/resume", P::WriteSettings),
    ("POST",   "/v1/admin/sources/{id}/destinations/{vendor}/dry-run", P::WriteSettings),
    ("GET",    "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters", P::ReadPeople),
    ("POST",   "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters/retry", P::ReadPeople),
    ("DELETE", "/v1/admin/sources/{id}/destinations/{vendor}/dead-letters/{event_id}", P::ReadPeople),
    ("GET",    "/v1/admin/sources/{id}/destinations/{vendor}/replays", P::ReadPeople),
    ("POST",   "/v1/admin/sources/{id}/destinations/{vendor}/replays", P::ReadPeople),
    ("DELETE", "/v1/admin/sources/{id}/destinations/{vendor}/replays/{replay_id}", P::ReadPeople),
    ("GET",    "/v1/admin/sources/{id}/live-events", P::ReadPeople),
    ("GET",    "/v1/admin/secrets", P::ReadSettings),
    ("GET",    "/v1/admin/secrets/{name}", P::ReadSettings),
    ("PUT",    "/v1/admin/secrets/{name}", P::WriteSettings),
    ("DELETE", "/v1/admin/secrets/{name}", P::WriteSettings),
    ("GET",    "/v1/admin/crypto/re-encrypt", P::Reencrypt),
    ("POST",   "/v1/admin/crypto/re-encrypt", P::Reencrypt),
    ("GET",    "/health/crypto", P::Public),
    ("GET",    "/v1/admin/identities", P::ReadPeople),
    ("GET",    "/v1/admin/identities/{id}/export", P::WritePeople),
    ("DELETE", "/v1/admin/identities/{id}", P::WritePeople),
    ("POST",   "/v1/admin/identities/{id}/unmerge", P::WritePeople),
    ("GET",    "/v1/admin/audit-log", P::ReadAudit),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_is_listed_twice_and_roles_only_grow() {
        for (index, (method, path, permission)) in ROUTES.iter().enumerate() {
            assert!(
                !ROUTES.iter().skip(index + 1).any(|row| (row.0, row.1) == (method, path)),
                "{method} {path}"
            );
            let (name, roles) = permission.row();
            let order = [Role::Owner, Role::Admin, Role::Editor, Role::Viewer];
            assert_eq!(roles, &order[..roles.len()], "{name}: whoever is above may as well");
        }
        let viewer = Role::Viewer.permissions();
        assert!(viewer.contains(&"settings:read") && !viewer.contains(&"users:read"), "{viewer:?}");
        assert!(Role::Owner.permissions().contains(&"users:write"));
        assert_eq!(Role::of("admin"), Some(Role::Admin));
        assert_eq!(Role::of("root"), None);
    }
}
