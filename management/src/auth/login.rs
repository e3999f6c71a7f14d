//! Logging in with email and password.

use argon2::{Argon2, PasswordVerifier, password_hash::phc::PasswordHash};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, define_sql_function, sql_types::Text};
use diesel_async::RunQueryDsl;
use migrations::schema::users;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::sessions::{self, Pair, Proven};
use crate::{
    api::error::{Code, Result},
    state::Management,
};

define_sql_function! { fn lower(text: Text) -> Text; }

/// The pair of tokens of a new session for whoever has that address and that password.
pub async fn login(state: &Management, email: &str, password: SecretString) -> Result<Pair> {
    let found: Option<(Uuid, Uuid, String)> = {
        let mut connection = state.connection().await?;
        let user =
            users::table.filter(lower(users::email).eq(lower(email))).filter(users::disabled_at.is_null());
        user.select((users::id, users::org_id, users::password_hash))
            .first(&mut **connection)
            .await
            .optional()?
    };
    let (user, org, password_hash) = found.ok_or(Code::InvalidCredentials)?;
    let proven = Proven { user, org, password_hash: password_hash.clone() };
    let verified = tokio::task::spawn_blocking(move || {
        let hash = PasswordHash::new(&password_hash).ok()?;
        Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).ok()
    });
    verified.await.ok().flatten().ok_or(Code::InvalidCredentials)?;
    sessions::begin(state, &proven).await
}
