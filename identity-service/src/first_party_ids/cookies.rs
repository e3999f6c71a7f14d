//! The vendors' own cookies, as browsers are given them.

use proto::v1::{Cookie, SameSite};
use time::OffsetDateTime;

use crate::settings::CollectHost;
use crate::vendors::generated::GeneratedId;

/// A cookie that ends at `expires_at`. Not HttpOnly: the vendor's own library may run on the page and reads
/// it.
pub fn cookie(
    record: &GeneratedId,
    value: String,
    expires_at: OffsetDateTime,
    host: Option<&CollectHost>,
    now: OffsetDateTime,
) -> Cookie {
    Cookie {
        name: record.cookie.to_owned(),
        value,
        max_age_seconds: (expires_at - now).whole_seconds(),
        domain: host.and_then(|host| host.cookie_domain.clone()),
        path: "/".to_owned(),
        secure: !host.is_some_and(|host| host.is_http),
        http_only: false,
        same_site: SameSite::Lax.into(),
    }
}
