//! The check of the records when the core starts: a sync is rendered with test values, and what the vendor would send
//! back is read.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{
    privacy, state,
    uid::{self, Uid},
};
use crate::{
    consent::Forwarded,
    vendors::{
        self, SyncVendor,
        sync::{Mode, PartnerIn},
        sync_url::{self, Errand},
    },
};

/// Longest URL that a browser is sent to with the strings of the test, in bytes: proxies take 8 KiB.
const MAX_URL_BYTES: usize = 4096;
/// The collect host of the test.
const COLLECT_URL: &str = "https://collect.example";
/// The partner ID of the test, with what has to be escaped.
const PARTNER_ID: &str = "12 a&b/c?d#e";

/// A record of which no sync can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the record of the vendor {vendor} is not valid: {problem}")]
pub struct RecordError {
    vendor: &'static str,
    problem: &'static str,
}

/// Checks the records of all vendors.
pub fn check_all() -> Result<(), RecordError> {
    vendors::syncs().try_for_each(check)
}

/// Checks one record: the URL is https, on the record's own host, and names each parameter once; it carries the partner
/// ID and the consent; an ID that comes back is read with its state, and what stands for none is none.
fn check(vendor: &SyncVendor) -> Result<(), RecordError> {
    let problem = |problem| RecordError { vendor: vendor.name, problem };
    let demand = |holds: bool, what| if holds { Ok(()) } else { Err(problem(what)) };
    let state = "s".repeat(state::MAX_CHARS);
    let said = Forwarded {
        gdpr: Some(true),
        tcf: Some("CPtcf"),
        us_privacy: Some("1YNN"),
        gpp: Some("DBgpp~BV"),
        gpp_sid: Some("2,6".to_owned()),
    };
    let privacy = privacy::params(&vendor.privacy, said);
    let errand = Errand {
        endpoint: vendor.endpoint,
        partner_id: PARTNER_ID,
        collect_url: COLLECT_URL,
        state: &state,
        privacy: &privacy,
    };
    let text = sync_url::vendor_url(vendor, &errand);
    let own = Url::parse(vendor.endpoint).map_err(|_| problem("its endpoint is no URL"))?;
    let url = Url::parse(&text).map_err(|_| problem("it renders no URL"))?;
    demand(url.scheme() == "https" && url.host().is_some(), "it renders no https URL")?;
    demand(url.origin() == own.origin() && url.username().is_empty(), "its URL is not on its own host")?;
    demand(
        text.len() <= MAX_URL_BYTES && url.fragment().is_none(),
        "its URL is too long, or ends in a fragment",
    )?;
    let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = url.query_pairs().collect();
    let once = |name: &str| {
        let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        values.next().filter(|_| values.next().is_none())
    };
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_ref()).collect();
    demand(names.iter().all(|name| once(name).is_some()), "a parameter is there twice")?;
    let has_partner = match vendor.partner {
        PartnerIn::Param(name) => once(name) == Some(PARTNER_ID),
        PartnerIn::Path { .. } => url.path().contains(&encoded(PARTNER_ID)),
    };
    demand(has_partner, "the partner ID is lost")?;
    demand(privacy.iter().all(|(name, value)| once(name) == Some(value)), "the consent is lost")?;
    let callback = match vendor.mode {
        Mode::Redirect { param, .. } | Mode::Append { param, .. } => once(param).map(str::to_owned),
        Mode::Registered { .. } => sync_url::registered_callback(vendor, COLLECT_URL),
    };
    let path = format!("{COLLECT_URL}/v1/sync/{}/callback?", vendor.name);
    let query = callback.as_deref().and_then(|callback| callback.strip_prefix(&path));
    let query = query.ok_or_else(|| problem("the callback is lost"))?;
    let example = vendor.uid_shape.example();
    let read = uid::read(vendor, &brought_back(vendor, query, example));
    let has_state = matches!(vendor.mode, Mode::Registered { .. }) || read.state.as_deref() == Some(&*state);
    demand(read.uid == Uid::Value(example.to_owned()) && has_state, "the callback is lost on the way back")?;
    let is_none = |query: &str| uid::read(vendor, query).uid == Uid::Missing;
    demand(is_none(query), "its macro would be taken for an ID")?;
    let sentinels = vendor.sentinels.iter();
    let mut sentinels = sentinels.map(|sentinel| brought_back(vendor, query, sentinel));
    demand(sentinels.all(|query| is_none(&query)), "one of its sentinels would be taken for an ID")
}

/// The callback's query as the vendor sends the browser back with it.
fn brought_back(vendor: &SyncVendor, query: &str, id: &str) -> String {
    let id = encoded(id);
    match vendor.mode {
        Mode::Redirect { uid_macro: None, .. } => format!("{query}&{}={id}", vendor.uid_param),
        Mode::Redirect { uid_macro: Some(uid_macro), .. } | Mode::Registered { uid_macro } => {
            query.replace(uid_macro, &id)
        }
        Mode::Append { .. } => format!("{query}{id}"),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendors::find_sync;

    fn problem(name: &str, spoil: impl FnOnce(&mut SyncVendor)) -> &'static str {
        let mut record = find_sync(name).unwrap().clone();
        spoil(&mut record);
        check(&record).unwrap_err().problem
    }

    #[test]
    fn every_record_is_good() {
        assert_eq!(check_all(), Ok(()));
    }

    #[test]
    fn a_record_that_can_t_work_is_named_in_one_line() {
        let cases = [
            (
                problem("criteo", |record| record.endpoint = "http://gum.criteo.com/sync"),
                "it renders no https URL",
            ),
            (problem("criteo", |record| record.endpoint = "gum.criteo.com/sync"), "its endpoint is no URL"),
            (
                problem("criteo", |record| record.endpoint = "https://a@gum.criteo.com/sync"),
                "its URL is not on its own host",
            ),
            (
                problem("criteo", |record| record.endpoint = "https://gum.criteo.com/#sync"),
                "its URL is too long, or ends in a fragment",
            ),
            (problem("criteo", |record| record.fixed_params = &[("c", "1")]), "a parameter is there twice"),
            (problem("pinterest", |record| record.privacy.gpp = Some("tid")), "a parameter is there twice"),
            (
                problem("taboola", |record| record.partner = PartnerIn::Path { rest: "?redirect=x" }),
                "a parameter is there twice",
            ),
            (
                problem("criteo", |record| {
                    record.mode = Mode::Redirect { param: "u", uid_macro: Some("USER") }
                }),
                "its macro would be taken for an ID",
            ),
            (problem("criteo", |record| record.uid_param = "state"), "the callback is lost on the way back"),
            (
                problem("index_exchange", |record| {
                    record.mode = Mode::Append { param: "cb", tail: &["state"] };
                    record.uid_param = "state";
                }),
                "the callback is lost on the way back",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
        let mut record = find_sync("criteo").unwrap().clone();
        record.endpoint = "nowhere";
        let line = check(&record).unwrap_err().to_string();
        assert_eq!(line, "the record of the vendor criteo is not valid: its endpoint is no URL");
    }
}
