//! Input about a user, and what is shown of them.

use diesel::{Queryable, Selectable};
use migrations::schema::users;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::{
    error::{Code, Result},
    member::given,
    permission::Role,
};

/// A new user, with their password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Email address to log in with; no other user of the organisation has it, whatever its case.
    #[schema(max_length = 254)]
    pub(super) email: String,
    /// Name of the user, for display.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub(super) name: String,
    pub(super) role: Role,
    /// Password of 12 to 128 characters, not easy to guess.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    pub(super) password: SecretString,
}

/// Input with what can be changed of a user. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserInput {
    /// Name of the user, for display.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, max_length = 200, required = false)]
    pub(super) name: Option<String>,
    /// Role, which says what they may do, at once and with the tokens that they have.
    pub(super) role: Role,
    /// True where they can't log in; whatever sessions they have end.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    pub(super) disabled: Option<bool>,
}

/// A password that is set for someone else.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordInput {
    /// Password of 12 to 128 characters, not easy to guess.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    pub(super) password: SecretString,
}

/// A user of the organisation.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    pub(super) id: Uuid,
    pub(super) email: String,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) disabled: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    last_login_at: Option<OffsetDateTime>,
    /// Version of the record, for `If-Match`.
    pub(super) version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Row of a user.
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
    /// Makes the view of the user; a defect where the role is none of ours.
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
