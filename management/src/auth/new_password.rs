//! Passwords that someone sets, for themselves or for another.

use diesel::QueryDsl;
use diesel_async::RunQueryDsl;
use migrations::schema::orgs;
use secrecy::SecretString;
use uuid::Uuid;

use super::{
    Auth,
    password::{self, Refused},
};
use crate::api::error::{ApiError, Code, Result};

/// Hashes a password that someone sets, of whom `about` is known, and whose organisation is `org`. Refuses
/// one that is not good, and tells why at `field`.
pub async fn hash_of_new(
    auth: &Auth,
    org: Uuid,
    mut about: Vec<String>,
    password: SecretString,
    field: &str,
) -> Result<String> {
    {
        let mut connection = auth.connection().await?;
        about.push(orgs::table.find(org).select(orgs::name).first(&mut **connection).await?);
    }
    let hash = auth.hashing.run(move || password::set(&password, &about)).await?;
    hash.map_err(|refused| match refused {
        Refused::Hash => Code::Internal.into(),
        refused => ApiError::field(field, refused.to_string()),
    })
}
