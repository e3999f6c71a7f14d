//! Lists in pages: `?cursor=…&limit=…` → `{data, next_cursor, has_more}`.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{Code, Result};

/// Entries of a page where the caller names no number.
const DEFAULT_ENTRIES: i64 = 50;
/// Most entries of a page, whatever is asked for.
const MAX_ENTRIES: i64 = 100;

/// The page that is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// `next_cursor` of the page before. Absent: the first page.
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
    /// Entries on the page: 1 to 100, 50 where it is absent; more gives 100.
    #[param(value_type = Option<i64>, minimum = 1)]
    pub limit: Option<Limit>,
}

impl Page {
    /// Entries to read: one more than are shown, which tells whether there are others.
    pub fn rows(&self) -> i64 {
        self.shown() + 1
    }

    fn shown(&self) -> i64 {
        self.limit.as_ref().map_or(DEFAULT_ENTRIES, |limit| limit.0)
    }

    /// Key after which this page begins; none for the first. `INVALID_PARAMETER` where it is no `K`.
    pub fn after<K: FromStr>(&self) -> Result<Option<K>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        Ok(Some(cursor.key.parse().map_err(|_| Code::InvalidParameter)?))
    }

    /// Makes the answer from what [`Page::rows`] brought, in order of `key`.
    pub fn of<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let shown = usize::try_from(self.shown()).unwrap_or(usize::MAX);
        let has_more = rows.len() > shown;
        rows.truncate(shown);
        let last = rows.last().filter(|_| has_more);
        let next_cursor = last.map(|row| URL_SAFE_NO_PAD.encode(key(row)));
        Paged { data: rows, next_cursor, has_more }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Paged<T> {
    /// Entries of this page.
    pub data: Vec<T>,
    /// Cursor of the page after this one; null on the last.
    pub next_cursor: Option<String>,
    /// True where there is a page after this one.
    pub has_more: bool,
}

impl<T> Paged<T> {
    /// Gives the same page of other things.
    pub fn map<U>(self, to: impl FnMut(T) -> U) -> Paged<U> {
        Paged {
            data: self.data.into_iter().map(to).collect(),
            next_cursor: self.next_cursor,
            has_more: self.has_more,
        }
    }
}

/// Place where a page begins; opaque to callers.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor {
    key: String,
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not a cursor")?;
        let key = String::from_utf8(key).ok().filter(|key| !key.contains('\0')).ok_or("not a cursor")?;
        Ok(Self { key })
    }
}

/// Number of entries that is asked for; never none, and never more than there may be.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i64")]
pub struct Limit(i64);

impl TryFrom<i64> for Limit {
    type Error = &'static str;

    fn try_from(limit: i64) -> Result<Self, Self::Error> {
        if limit < 1 { Err("at least one") } else { Ok(Self(limit.min(MAX_ENTRIES))) }
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;

    use super::*;

    fn page(query: &str) -> Option<Page> {
        let uri = format!("/x?{query}").parse().unwrap();
        Query::try_from_uri(&uri).ok().map(|Query(page)| page)
    }

    #[test]
    fn limits_are_bounded_and_cursors_are_ours() {
        assert_eq!(page("").unwrap().rows(), 51);
        assert_eq!(page("limit=1").unwrap().rows(), 2);
        assert_eq!(page("limit=1000000000").unwrap().rows(), 101);
        for bad in [
            "limit=0",
            "limit=-1",
            "limit=x",
            "limit=",
            "cursor=%00",
            "cursor=a",
            "sort=name",
            "limit=1&limit=2",
        ] {
            assert!(page(bad).is_none(), "{bad}");
        }
        let cursor = URL_SAFE_NO_PAD.encode("seven");
        assert!(page(&format!("cursor={cursor}")).unwrap().after::<u32>().is_err());
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let first = page("limit=2").unwrap().of(vec![1, 2, 3], ToString::to_string);
        assert_eq!((first.data, first.has_more), (vec![1, 2], true));
        let second = page(&format!("limit=2&cursor={}", first.next_cursor.unwrap())).unwrap();
        assert_eq!(second.after::<i32>().unwrap(), Some(2));
        let second = second.of(vec![3], ToString::to_string);
        assert_eq!((second.data, second.has_more, second.next_cursor), (vec![3], false, None));
    }
}
