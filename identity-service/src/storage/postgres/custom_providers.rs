//! Customers' own providers that fill a field which is reserved for a built-in vendor.

use diesel::{
    prelude::*,
    sql_types::{Array, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::Result;
use migrations::prepared::Prepared;

/// A provider that fills a reserved field.
#[derive(Debug, QueryableByName)]
pub struct FillerRow {
    /// The source that it is configured on.
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    pub source_id: Uuid,
    /// The provider's name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The field that it fills.
    #[diesel(sql_type = Text)]
    pub redis_field: String,
}

/// The providers of all organisations that fill one of `fields`, which are lower-case: they are of before the fields
/// were reserved.
pub async fn fillers_of(connection: &mut AsyncPgConnection, fields: &[&str]) -> Result<Vec<FillerRow>> {
    let query = diesel::sql_query(
        "SELECT source_id, name, redis_field FROM custom_providers WHERE lower(redis_field) = ANY ($1) \
         ORDER BY source_id, name",
    );
    Ok(Prepared(query.bind::<Array<Text>, _>(fields)).load(connection).await?)
}
