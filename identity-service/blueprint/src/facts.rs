//! What is known of an event when it is mapped, and how paths find it.

use std::{borrow::Cow, collections::BTreeMap};

use time::{Duration, OffsetDateTime};
use url::Url;

use crate::{
    json::{self, Json, Node},
    path::{Path, Step},
    transform::{self, iso8601},
};

/// Longest time by which an event's own time may be before its arrival.
const MAX_AGE: Duration = Duration::hours(24);
/// Longest time by which an event's own time may be after its arrival.
const MAX_LEAD: Duration = Duration::minutes(5);
/// Parameter of a link token, which is nobody's but ours.
const LINK_TOKEN: &str = "_dfl";

/// An event with all that was learned of it.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The event as it came, an object.
    pub event: Node<'a>,
    /// The context of its batch.
    pub batch_context: Option<Node<'a>>,
    /// The ID of the event, which stands in for a message ID.
    pub event_id: Cow<'a, str>,
    /// The time of its arrival.
    pub received_at: OffsetDateTime,
    /// The canonical identity.
    pub canonical_id: Cow<'a, str>,
    /// The anonymous ID that counts; empty where there is none.
    pub anonymous_id: Cow<'a, str>,
    /// The user ID, where it is one; empty otherwise.
    pub user_id: Cow<'a, str>,
    /// The visitor's address; empty where it is unknown.
    pub ip: Cow<'a, str>,
    /// The visitor's User-Agent; empty where it is unknown.
    pub user_agent: Cow<'a, str>,
    /// True where a customer's server sent it: its own context says who the visitor is.
    pub is_signed: bool,
    /// Consent as it is stored, for an event that brings none.
    pub stored_consent: Option<Node<'a>>,
    /// Vendor IDs by field.
    pub vendor_ids: BTreeMap<String, String>,
    /// Attributes by provider.
    pub partner_attrs: Vec<(Cow<'a, str>, Node<'a>)>,
    /// Match keys by vendor.
    pub match_keys: Vec<(Cow<'a, str>, Node<'a>)>,
    /// Public settings of the destination.
    pub settings: BTreeMap<&'static str, String>,
}

impl<'a> Facts<'a> {
    /// Finds what a path leads to; none for what is not there, null or an empty text.
    pub fn find(&self, path: &Path) -> Option<Cow<'_, Node<'a>>> {
        let steps = &path.steps;
        let found = match path.root {
            "type" => self.own(&["type"], steps),
            "event" => self.own(&["event"], steps),
            "name" => self.own(&["name"], steps),
            "group_id" => self.own(&["groupId", "group_id"], steps),
            "properties" => self.own(&["properties"], steps).map(|found| cleaned(path, found)),
            "traits" => self.own(&["traits"], steps),
            "context" => self.context(steps).map(|found| cleaned(path, found)),
            "page" => self.page(steps),
            "consent" => walk(self.consent()?, steps).map(Cow::Borrowed),
            "message_id" => whole(steps, Some(self.message_id())),
            "user_id" => whole(steps, text(&self.user_id)),
            "anonymous_id" => whole(steps, text(&self.anonymous_id)),
            "canonical_id" => whole(steps, text(&self.canonical_id)),
            "received_at" => whole(steps, Some(Node::text(iso8601(self.received_at)))),
            "timestamp" => whole(steps, self.timestamp(true)),
            "original_timestamp" => whole(steps, self.timestamp(false)),
            "ip" => whole(steps, self.visitors_own(&self.ip, &["ip"])),
            "user_agent" => whole(steps, self.visitors_own(&self.user_agent, &["userAgent", "user_agent"])),
            "vendor_ids" => {
                let [Step::Name(field)] = steps.as_slice() else { return None };
                self.vendor_ids.get(field).map(|value| Cow::Owned(Node::text(value.clone())))
            }
            "settings" => {
                let [Step::Name(name)] = steps.as_slice() else { return None };
                self.settings.get(name.as_str()).map(|value| Cow::Owned(Node::text(value.clone())))
            }
            "partner_attrs" => of_list(&self.partner_attrs, steps),
            "match_keys" => of_list(&self.match_keys, steps),
            _ => None,
        };
        found.filter(|node| !node.is_nothing())
    }

    /// The kind of the event, such as `track`; empty where it says none.
    pub fn kind(&self) -> &str {
        self.event.member("type").and_then(Node::as_text).unwrap_or_default()
    }

    /// The name of the event: of a call of another kind than `track` that kind.
    pub fn event_name(&self) -> &str {
        let member = |name| self.event.member(name).and_then(Node::as_text).filter(|text| !text.is_empty());
        match self.kind() {
            kind @ ("page" | "identify" | "group" | "screen" | "alias") => kind,
            kind => {
                let name = member("event").or_else(|| member("name"));
                name.unwrap_or(if kind.is_empty() { "track" } else { kind })
            }
        }
    }

    /// The consent that counts: the event's own, else its batch's, else the stored one.
    pub fn consent(&self) -> Option<&Node<'a>> {
        let contexts = [self.event.member("context"), self.batch_context.as_ref()];
        match contexts.into_iter().flatten().find(|context| has_consent(context)) {
            Some(context) => context.member("consent"),
            None => self.stored_consent.as_ref(),
        }
    }

    /// The traits by which a person can be reached, by name: those of the event win over those of its context.
    pub fn trait_text(&self, names: &[&str]) -> Option<&str> {
        let own = self.event.member("traits");
        let of_context = self.event.member("context").and_then(|context| context.member("traits"));
        let of_batch = self.batch_context.as_ref().and_then(|context| context.member("traits"));
        [own, of_context, of_batch]
            .into_iter()
            .flatten()
            .flat_map(|traits| names.iter().filter_map(|name| traits.member(name)))
            .filter(|node| !matches!(node.value, Json::Boolean(_)))
            .find_map(|node| node.scalar_text().filter(|text| !text.trim().is_empty()))
    }

    fn own(&self, names: &[&str], steps: &[Step]) -> Option<Cow<'_, Node<'a>>> {
        let found =
            names.iter().filter_map(|name| self.event.member(name)).find(|node| !node.is_nothing())?;
        walk(found, steps).map(Cow::Borrowed)
    }

    /// Looks in the event's own context, and for what that has not in its batch's.
    fn context(&self, steps: &[Step]) -> Option<Cow<'_, Node<'a>>> {
        let of = |context: &'_ Node<'a>| walk(context, steps).is_some_and(|node| !node.is_nothing());
        let own = self.event.member("context").filter(|context| of(context));
        walk(own.or_else(|| self.batch_context.as_ref().filter(|context| of(context)))?, steps)
            .map(Cow::Borrowed)
    }

    /// The page, by its context, and of a page call by its properties.
    fn page(&self, steps: &[Step]) -> Option<Cow<'_, Node<'a>>> {
        let mut in_context = vec![Step::Name("page".to_owned())];
        in_context.extend_from_slice(steps);
        let found = self.context(&in_context);
        let found =
            found.or_else(|| if self.kind() == "page" { self.own(&["properties"], steps) } else { None })?;
        Some(cleaned(&Path { root: "page", steps: steps.to_vec() }, found))
    }

    fn message_id(&self) -> Node<'a> {
        let own = ["messageId", "message_id"].iter().filter_map(|name| self.event.member(name));
        let own = own.filter_map(Node::as_text).find(|text| !text.trim().is_empty());
        Node::text(own.unwrap_or(&self.event_id).to_owned())
    }

    /// The event's own time: where it is to be believed, or where it is not.
    fn timestamp(&self, believed: bool) -> Option<Node<'a>> {
        let own = self.event.member("timestamp")?;
        let at = transform::time_of(own)?;
        let is_near = at >= self.received_at - MAX_AGE && at <= self.received_at + MAX_LEAD;
        (is_near == believed).then(|| own.clone())
    }

    /// The visitor's address.
    pub fn ip(&self) -> Option<String> {
        Some(self.visitors_own(&self.ip, &["ip"])?.as_text()?.to_owned())
    }

    /// The visitor's User-Agent.
    pub fn user_agent(&self) -> Option<String> {
        Some(self.visitors_own(&self.user_agent, &["userAgent", "user_agent"])?.as_text()?.to_owned())
    }

    /// What the connection says of the visitor; of a signed call what its context says.
    fn visitors_own(&self, seen: &str, names: &[&str]) -> Option<Node<'a>> {
        if !self.is_signed {
            return text(seen);
        }
        let found = names.iter().find_map(|name| self.context(&[Step::Name((*name).to_owned())]))?;
        Some(found.into_owned()).filter(|node| node.as_text().is_some())
    }
}

fn has_consent(context: &Node<'_>) -> bool {
    context.member("consent").is_some_and(|consent| !consent.is_nothing())
}

/// What a path leads to, where that is the URL of a page without its link token.
fn cleaned<'n, 'a>(path: &Path, found: Cow<'n, Node<'a>>) -> Cow<'n, Node<'a>> {
    let is_url = match path.steps.as_slice() {
        [.., Step::Name(last)] => is_name_of_url(last),
        _ => false,
    };
    match found.as_text() {
        Some(text) if is_url && text.contains(LINK_TOKEN) => Cow::Owned(Node::text(without_token(text))),
        _ => found,
    }
}

fn is_name_of_url(name: &str) -> bool {
    ["url", "search", "referrer"].contains(&name)
}

/// A property without a link token; none where it has none.
pub(crate) fn property_without_token(name: &str, node: &Node<'_>) -> Option<String> {
    let text = node.as_text().filter(|text| is_name_of_url(name) && text.contains(LINK_TOKEN))?;
    Some(json::quoted(&without_token(text)))
}

/// A URL, or the query of one, without a link token.
fn without_token(text: &str) -> String {
    let is_token = |pair: &str| pair.split_once('=').map_or(pair, |pair| pair.0) == LINK_TOKEN;
    let strip = |query: &str| query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&");
    if let Ok(mut url) = Url::parse(text) {
        let query = url.query().map(strip).filter(|query| !query.is_empty());
        url.set_query(query.as_deref());
        let fragment = url.fragment().map(strip).filter(|fragment| !fragment.is_empty());
        url.set_fragment(fragment.as_deref());
        return url.into();
    }
    match text.split_once('?') {
        Some((before, query)) => {
            let query = strip(query);
            if query.is_empty() { before.to_owned() } else { format!("{before}?{query}") }
        }
        None => strip(text),
    }
}

fn text<'a>(text: &str) -> Option<Node<'a>> {
    Some(text).filter(|text| !text.is_empty()).map(|text| Node::text(text.to_owned()))
}

/// A value that has no parts.
fn whole<'n, 'a>(steps: &[Step], node: Option<Node<'a>>) -> Option<Cow<'n, Node<'a>>> {
    node.filter(|_| steps.is_empty()).map(Cow::Owned)
}

fn of_list<'n, 'a>(list: &'n [(Cow<'a, str>, Node<'a>)], steps: &[Step]) -> Option<Cow<'n, Node<'a>>> {
    let Some((Step::Name(first), rest)) = steps.split_first() else {
        return steps.is_empty().then(|| Cow::Owned(Node::object(list.to_vec())));
    };
    let (_, node) = list.iter().find(|(name, _)| name == first)?;
    walk(node, rest).map(Cow::Borrowed)
}

fn walk<'n, 'a>(from: &'n Node<'a>, steps: &[Step]) -> Option<&'n Node<'a>> {
    steps.iter().try_fold(from, |node, step| match step {
        Step::Name(name) => node.member(name),
        Step::Item(at) => node.item(*at),
    })
}
