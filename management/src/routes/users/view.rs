//! What is told of a user, and what is shown of him.

use diesel::{Queryable, Selectable};
use migrations::schema::users;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::{
    error::{Code, Result},
    permission::Role,
};

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// With it he logs in; no other user of any organisation has it, whatever its case.
    #[schema(max_length = 254)]
    pub(super) email: String,
    /// For display.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub(super) name: String,
    pub(super) role: Role,
    /// 12 to 128 characters, and not easy to guess.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    pub(super) password: SecretString,
}

/// What can be changed of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserInput {
    /// For display.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub(super) name: String,
    /// What he may do, at once and with the tokens that he has.
    pub(super) role: Role,
    /// He can't log in, and whatever sessions he has end.
    #[serde(default)]
    pub(super) disabled: bool,
}

/// A password that is set for someone else.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordInput {
    /// 12 to 128 characters, and not easy to guess.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    pub(super) password: SecretString,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    pub(super) id: Uuid,
    pub(super) email: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) disabled: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    last_login_at: Option<OffsetDateTime>,
    /// For `If-Match`.
    pub(super) version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A user's row.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub(super) struct UserRow {
    id: Uuid,
    email: String,
    name: String,
    role: String,
    disabled_at: Option<OffsetDateTime>,
    last_login_at: Option<OffsetDateTime>,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl UserRow {
    /// What is shown of him.
    pub(super) fn shown(self) -> Result<UserView> {
        Ok(UserView {
            id: self.id,
            email: self.email,
            name: self.name,
            role: Role::of(&self.role).ok_or(Code::Internal)?,
            disabled: self.disabled_at.is_some(),
            last_login_at: self.last_login_at,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
