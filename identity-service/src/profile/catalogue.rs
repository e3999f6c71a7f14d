//! What a customer has to know to set a provider of profiles up.

/// A provider of profiles.
pub struct ProfileProvider {
    /// The name in paths, metrics and settings.
    pub name: &'static str,
    /// The name for people.
    pub label: &'static str,
    /// Help for the customer: what it gives, and what it needs.
    pub help: &'static str,
    /// The fields of its settings, in the order of a form.
    pub fields: &'static [Field],
}

/// A field of settings.
pub struct Field {
    /// The name in settings.
    pub key: &'static str,
    /// The name for people.
    pub label: &'static str,
    /// The way in which a form takes it.
    pub kind: &'static str,
    /// True where settings need it.
    pub is_required: bool,
    /// Help for the customer: what it is, and where it is found.
    pub help: &'static str,
}

/// The providers that are looked up at.
pub const ALL: &[ProfileProvider] = &[ProfileProvider {
    name: super::plan::AMPERITY,
    label: "Amperity",
    help: "Sends events to Amperity, and reads the attributes of visitors from it, for delivery and for the page. Reading \
           needs a Profile API Key, a Profile Collection ID and linking keys.",
    fields: &[
        field(
            "tenant_subdomain",
            "Tenant subdomain",
            "string",
            "First part of the host of your dashboard, acme of \
            acme.amperity.com.",
        ),
        field(
            "tenant_id",
            "Tenant ID",
            "string",
            "Sent as Amperity-Tenant. Mostly the subdomain; sandboxes have another.",
        ),
        field(
            "api_key",
            "Streaming Ingest API Key",
            "secret",
            "Settings, Security, API keys: a key with Streaming Ingest \
            Write Access, shown once.",
        ),
        field(
            "event_stream_id",
            "Event Stream ID",
            "string",
            "Sources, Streams: the ID of a realtime stream, esm-. One \
            that begins with is- takes batches and updates no profile in real time.",
        ),
        field(
            "source_value",
            "Source value",
            "string",
            "The source of every event, to the letter as in the routing \
            expression of the stream; else events are accepted and go nowhere.",
        ),
        optional(
            "profile_api_key",
            "Profile API Key",
            "secret",
            "Settings, Security, API keys: a key with Profile Read \
            Access. Another than the Streaming Ingest key, which may not read.",
        ),
        optional(
            "profile_collection_id",
            "Profile Collection ID",
            "string",
            "ID of the collection to look profiles up in, \
            apc-. Needed with a Profile API Key.",
        ),
        optional(
            "linking_keys",
            "Linking keys",
            "textarea",
            "List of {source, key, hash}, tried in order until one \
            matches. source is canonical_id, anonymous_id, user_id, email or phone; key is one of the linking_keys of the \
            collection; hash may be sha256. Without any no profile is found.",
        ),
        optional(
            "browser_attribute_allowlist",
            "Browser attribute allowlist",
            "csv",
            "Names of the attributes that pages \
            may see, with commas between. Nothing else leaves the server; none: nothing does.",
        ),
        optional(
            "context_enabled",
            "Enable Context-Sensitive Personalisation",
            "boolean",
            "Sends values of each event, and \
            reads attributes for them. Each new combination is a call.",
        ),
        optional(
            "context_mappings",
            "Personalisation Context Mappings",
            "textarea",
            "List of {source, target}: a path into \
            the event, such as properties.category or partner_attrs.amperity.LifetimeTier, and the name it is sent by. Take \
            values of which there are few: no times, no URLs.",
        ),
        optional(
            "consent_category",
            "Consent category",
            "string",
            "Category of consent that reading needs, such as \
            marketing. None: it needs none.",
        ),
        optional(
            "base_url",
            "Base URL",
            "string",
            "In place of https://<subdomain>.amperity.com, for tenants at another \
            host, such as https://app.amperity.com.",
        ),
    ],
}];

const fn field(key: &'static str, label: &'static str, kind: &'static str, help: &'static str) -> Field {
    Field { key, label, kind, is_required: true, help }
}

const fn optional(key: &'static str, label: &'static str, kind: &'static str, help: &'static str) -> Field {
    Field { is_required: false, ..field(key, label, kind, help) }
}
