//! Passwords that someone sets.

use diesel::QueryDsl;
use diesel_async::RunQueryDsl;
use migrations::schema::orgs;
use secrecy::SecretString;
use uuid::Uuid;

use super::password::{self, Refused};
use crate::{
    api::error::{ApiError, Code, Result},
    state::Management,
};

/// The hash of a password that someone sets, of whom `about` is known, and whose organisation is `org`. Else what is
/// wrong with it, at `field`.
pub async fn hash_of_new(
    state: &Management,
    org: Uuid,
    mut about: Vec<String>,
    password: SecretString,
    field: &str,
) -> Result<String> {
    {
        let mut connection = state.connection().await?;
        about.push(orgs::table.find(org).select(orgs::name).first(&mut **connection).await?);
    }
    let hash = state.hashing.run(move || password::set(&password, &about)).await?;
    hash.map_err(|refused| match refused {
        Refused::Hash => Code::Internal.into(),
        refused => ApiError::field(field, refused.to_string()),
    })
}
