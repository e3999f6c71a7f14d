//! Query parameters, path IDs, and versions in headers.

use axum::extract::{FromRequestParts, Path};
use http::{header, request::Parts};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{ApiError, Code, Result};

/// Query parameters as a `T`, which is to deny unknown ones. A query that can't be decoded without loss is
/// refused: what it would be read as may name somebody else.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        if !parts.uri.query().is_none_or(is_decodable) {
            return Err(Code::InvalidParameter.into());
        }
        let parsed = axum::extract::Query::try_from_uri(&parts.uri);
        parsed.map(|axum::extract::Query(query)| Self(query)).map_err(|_| Code::InvalidParameter.into())
    }
}

/// True where every escape is complete, and what they stand for is UTF-8.
fn is_decodable(query: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    query.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(is_hex))
        && percent_decode_str(query).decode_utf8().is_ok()
}

/// An ID in the path. A text that is no UUID is nothing's ID, and so is not found.
#[derive(Debug)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<Uuid>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Code::NotFound.into())
    }
}

/// An ID and what comes after it in the path: another one, or a name.
#[derive(Debug)]
pub struct Under<T>(pub Uuid, pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Under<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<(Uuid, T)>::from_request_parts(parts, state).await;
        path.map(|Path((id, rest))| Self(id, rest)).map_err(|_| Code::NotFound.into())
    }
}

/// An ID, what belongs to it and what belongs to that in turn, in a path.
#[derive(Debug)]
pub struct Below<T, U>(pub Uuid, pub T, pub U);

impl<S: Send + Sync, T: DeserializeOwned + Send, U: DeserializeOwned + Send> FromRequestParts<S>
    for Below<T, U>
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<(Uuid, T, U)>::from_request_parts(parts, state).await;
        path.map(|Path((id, middle, last))| Self(id, middle, last)).map_err(|_| Code::NotFound.into())
    }
}

/// A name in the path. A text that can't be stored is nothing's name, and so is not found.
#[derive(Debug)]
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|_| Code::NotFound.into())
    }
}

/// The version that the caller has seen, from `If-Match: "3"`. None: any version will do.
#[derive(Debug, Clone, Copy)]
pub struct IfMatch(pub Option<i32>);

impl IfMatch {
    /// Refuses where the caller has seen another version than `current`, which is none where there was no
    /// record.
    pub fn check(self, current: Option<i32>) -> Result<()> {
        if self.0.is_none_or(|seen| Some(seen) == current) {
            Ok(())
        } else {
            Err(Code::VersionConflict.into())
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            // Two of them contradict each other.
            let none = !parts.headers.contains_key(header::IF_MATCH);
            return if none { Ok(Self(None)) } else { Err(Code::InvalidParameter.into()) };
        };
        let quoted = value.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        let version = quoted.and_then(|text| text.parse().ok()).ok_or(Code::InvalidParameter)?;
        Ok(Self(Some(version)))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    async fn if_match(values: &[&str]) -> Result<Option<i32>> {
        let mut request = Request::builder();
        for value in values {
            request = request.header("if-match", *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        IfMatch::from_request_parts(&mut parts, &()).await.map(|IfMatch(version)| version)
    }

    #[test]
    fn a_query_is_decoded_without_loss_or_not_at_all() {
        for good in ["", "a=1&b", "user_id=%C3%A9+x", "a=%25", "a=%F0%9F%8D%AA"] {
            assert!(is_decodable(good), "{good}");
        }
        for bad in ["user_id=%ff%fe", "%ff=1", "a=%C3&b=%A9", "a=%", "a=%4", "a=%zz", "a=%ED%A0%80"] {
            assert!(!is_decodable(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_version_is_one_quoted_number() {
        assert_eq!(if_match(&[]).await.unwrap(), None);
        assert_eq!(if_match(&["\"3\""]).await.unwrap(), Some(3));
        for bad in [&["3"][..], &["\"x\""], &["W/\"3\""], &["*"], &["\"3\"", "\"4\""], &[""]] {
            assert_eq!(if_match(bad).await.unwrap_err().code(), Code::InvalidParameter, "{bad:?}");
        }
        assert!(IfMatch(Some(3)).check(Some(3)).is_ok() && IfMatch(None).check(None).is_ok());
        assert!(IfMatch(Some(3)).check(Some(4)).is_err() && IfMatch(Some(3)).check(None).is_err());
    }
}
