//! The tables as diesel sees them; a test compares them with the migrated database.

use diesel::table;

table! { config_version (id) { id -> Bool, version -> BigInt, } }

table! {
    orgs (id) {
        id -> Uuid,
        name -> Text,
        test_of -> Nullable<Uuid>,
        config_version -> BigInt,
        created_at -> Timestamptz,
    }
}

table! {
    users (id) {
        id -> Uuid,
        org_id -> Uuid,
        email -> Text,
        name -> Text,
        role -> Text,
        password_hash -> Text,
        disabled_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        version -> Integer,
        updated_at -> Timestamptz,
        last_login_at -> Nullable<Timestamptz>,
    }
}

table! {
    sources (id) {
        id -> Uuid,
        org_id -> Uuid,
        name -> Text,
        domains -> Array<Text>,
        browser_identity -> Text,
        created_at -> Timestamptz,
        require_signature -> Bool,
        version -> Integer,
        updated_at -> Timestamptz,
        require_timestamp -> Bool,
        placeholders -> Array<Text>,
    }
}

table! {
    collect_hosts (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        url -> Text,
        cookie_domain -> Nullable<Text>,
        created_at -> Timestamptz,
        authority -> Text,
    }
}

table! {
    refused_hosts (source_id) {
        source_id -> Uuid,
        org_id -> Uuid,
        host -> Text,
        refused_on -> Date,
    }
}

table! {
    pipeline_keys (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        environment -> Text,
        key_hash -> Nullable<Binary>,
        hint -> Text,
        last_used_on -> Nullable<Date>,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        key -> Nullable<Text>,
    }
}

table! {
    server_secrets (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        sealed -> Binary,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
    }
}

table! {
    pipelines (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        consent_mode -> Text,
        purge_on_withdrawal -> Bool,
        created_at -> Timestamptz,
        rate_limit_rps -> Nullable<Integer>,
        version -> Integer,
        updated_at -> Timestamptz,
        consent_mapping -> Nullable<Jsonb>,
    }
}

table! {
    identity_sources (pipeline_id, vendor) {
        org_id -> Uuid,
        pipeline_id -> Uuid,
        vendor -> Text,
        partner_id -> Text,
        ttl_days -> Integer,
        enabled -> Bool,
        endpoint -> Nullable<Text>,
        version -> Integer,
        updated_at -> Timestamptz,
        supported_browsers_only -> Bool,
    }
}

table! {
    generated_ids (pipeline_id, vendor) {
        org_id -> Uuid,
        pipeline_id -> Uuid,
        vendor -> Text,
        enabled -> Bool,
        version -> Integer,
        updated_at -> Timestamptz,
    }
}

table! {
    sessions (id) {
        id -> Uuid,
        org_id -> Uuid,
        user_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
    }
}

table! {
    refresh_tokens (jti) {
        jti -> Uuid,
        org_id -> Uuid,
        session_id -> Uuid,
        token_hash -> Binary,
        expires_at -> Timestamptz,
        used_at -> Nullable<Timestamptz>,
        successor -> Nullable<Uuid>,
    }
}

table! { login_failures (key) { key -> Binary, times -> Integer, since -> Timestamptz, } }

table! {
    audit_log (id) {
        id -> Uuid,
        org_id -> Uuid,
        at -> Timestamptz,
        user_id -> Nullable<Uuid>,
        user_email -> Nullable<Text>,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        changes -> Jsonb,
        ip -> Text,
        user_agent -> Text,
    }
}

table! {
    enrichment_settings (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        vendor -> Text,
        enabled -> Bool,
        config -> Jsonb,
        sealed -> Nullable<Binary>,
        sealed_at -> Nullable<Timestamptz>,
        credentials -> Array<Text>,
        version -> Integer,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    enrichments (id) {
        id -> Uuid,
        org_id -> Uuid,
        provider_id -> Uuid,
        inputs -> Binary,
        canonical_id -> Uuid,
        leased_until -> Nullable<Timestamptz>,
        outcome -> Nullable<Text>,
        value -> Nullable<Text>,
        attributes -> Nullable<Jsonb>,
        collected_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
        kept_until -> Nullable<Timestamptz>,
        sealed -> Nullable<Binary>,
    }
}

table! {
    provider_states (org_id, provider, source_id) {
        org_id -> Uuid,
        provider -> Text,
        source_id -> Uuid,
        backoff_until -> Nullable<Timestamptz>,
        refused_version -> Nullable<Timestamptz>,
        refused_at -> Nullable<Timestamptz>,
        last_success_at -> Nullable<Timestamptz>,
        last_error -> Nullable<Text>,
        last_status -> Nullable<SmallInt>,
        last_error_at -> Nullable<Timestamptz>,
    }
}

table! {
    custom_providers (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        name -> Text,
        redis_field -> Text,
        settings -> Jsonb,
        version -> Integer,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    secrets (id) {
        id -> Uuid,
        org_id -> Uuid,
        name -> Text,
        sealed -> Binary,
        sealed_at -> Timestamptz,
        version -> Integer,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    profile_providers (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        provider -> Text,
        enabled -> Bool,
        config -> Jsonb,
        sealed -> Nullable<Binary>,
        sealed_at -> Nullable<Timestamptz>,
        credentials -> Array<Text>,
        version -> Integer,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! { seal_counts (key_id) { key_id -> Binary, times -> BigInt, } }

table! {
    reencryptions (org_id) {
        org_id -> Uuid,
        key_id -> Binary,
        total -> BigInt,
        done -> BigInt,
        failed -> BigInt,
        at_table -> Text,
        at_row -> Uuid,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        previous_key_id -> Nullable<Binary>,
    }
}

table! {
    canonicals (org_id, id) {
        org_id -> Uuid,
        id -> Uuid,
        merged_into -> Nullable<Uuid>,
        created_at -> Timestamptz,
        last_seen_on -> Date,
        linked_on -> Nullable<Date>,
        linked_times -> Integer,
        proven_times -> Integer,
    }
}

table! {
    links (org_id, kind, value) {
        org_id -> Uuid,
        kind -> SmallInt,
        value -> Text,
        canonical_id -> Uuid,
        via -> Text,
        linked_at -> Timestamptz,
        last_used_at -> Timestamptz,
    }
}

table! {
    consent (org_id, anonymous_id) {
        org_id -> Uuid,
        anonymous_id -> Text,
        signals -> Nullable<Text>,
        sec_gpc -> Bool,
        updated_at -> Timestamptz,
    }
}

table! {
    vendor_ids (org_id, canonical_id, field, owner_kind, owner) {
        org_id -> Uuid,
        canonical_id -> Uuid,
        field -> Text,
        value -> Text,
        source -> Text,
        collected_at -> Timestamptz,
        expires_at -> Timestamptz,
        owner -> Text,
        pipeline_id -> Nullable<Uuid>,
        owner_kind -> SmallInt,
        is_withheld -> Bool,
    }
}

table! {
    pii_digests (org_id, kind, value, what) {
        org_id -> Uuid,
        kind -> SmallInt,
        value -> Text,
        what -> Text,
        lower_sha256 -> Binary,
        lower_sha1 -> Nullable<Binary>,
        lower_md5 -> Nullable<Binary>,
        uid2_sha256 -> Nullable<Binary>,
        uid2_sha1 -> Nullable<Binary>,
        uid2_md5 -> Nullable<Binary>,
        verified -> Bool,
        seen_at -> Timestamptz,
        digits -> Nullable<Binary>,
        ten -> Nullable<Binary>,
    }
}

table! {
    resets (org_id, anonymous_id, replaced) {
        org_id -> Uuid,
        anonymous_id -> Text,
        replaced -> Text,
        at -> Timestamptz,
    }
}

table! {
    sync_attempts (org_id, canonical_id, vendor, anonymous_id) {
        org_id -> Uuid,
        canonical_id -> Uuid,
        vendor -> Text,
        last_synced -> Nullable<Timestamptz>,
        ttl_days -> Nullable<Integer>,
        outcome -> Text,
        attempts -> Integer,
        unanswered_since -> Nullable<Timestamptz>,
        next_at -> Timestamptz,
        anonymous_id -> Text,
        period_since -> Nullable<Timestamptz>,
        period_stored -> Bool,
    }
}

table! {
    used_states (org_id, anonymous_id, vendor) {
        org_id -> Uuid,
        anonymous_id -> Text,
        vendor -> Text,
        issued_at -> Timestamptz,
    }
}

table! {
    merge_history (id) {
        id -> Uuid,
        org_id -> Uuid,
        survivor_id -> Uuid,
        merged_id -> Uuid,
        moved -> Jsonb,
        merged_at -> Timestamptz,
        undone_at -> Nullable<Timestamptz>,
    }
}

table! {
    redis_repairs (id) {
        id -> BigInt,
        org_id -> Uuid,
        redis_key -> Text,
        created_at -> Timestamptz,
        tries -> Integer,
        nonce -> Text,
    }
}

table! {
    link_refusals (org_id, canonical_id, identifier, reason) {
        org_id -> Uuid,
        canonical_id -> Uuid,
        identifier -> Text,
        reason -> Text,
        times -> Integer,
        last_at -> Timestamptz,
    }
}

table! {
    used_proofs (org_id, digest, month) {
        org_id -> Uuid,
        digest -> Binary,
        month -> Date,
    }
}

table! { expiry_progress (id) { id -> Bool, expires_at -> Timestamptz, } }

table! {
    erased (org_id, digest) {
        org_id -> Uuid,
        digest -> Binary,
        erased_at -> Timestamptz,
    }
}

table! {
    tombstone_keys (id) {
        id -> Uuid,
        org_id -> Uuid,
        sealed -> Binary,
        created_at -> Timestamptz,
    }
}

table! {
    destinations (id) {
        id -> Uuid,
        org_id -> Uuid,
        source_id -> Uuid,
        vendor -> Text,
        enabled -> Bool,
        config -> Jsonb,
        sealed -> Nullable<Binary>,
        sealed_at -> Nullable<Timestamptz>,
        credentials -> Array<Text>,
        version -> Integer,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    events (day, source_id, event_id) {
        seq -> BigInt,
        day -> Date,
        org_id -> Uuid,
        source_id -> Uuid,
        canonical_id -> Uuid,
        event_id -> Uuid,
        received_at -> Timestamptz,
        body -> Binary,
    }
}

table! {
    event_heads (source_id) {
        source_id -> Uuid,
        org_id -> Uuid,
        seq -> BigInt,
        events -> BigInt,
        bytes -> BigInt,
    }
}

table! {
    delivery_cursors (destination_id) {
        destination_id -> Uuid,
        source_id -> Uuid,
        position -> BigInt,
        events -> BigInt,
        bytes -> BigInt,
        owner -> Nullable<Uuid>,
        epoch -> BigInt,
        lease_until -> Nullable<Timestamptz>,
        paused_at -> Nullable<Timestamptz>,
        reason -> Nullable<Text>,
        until -> Nullable<Timestamptz>,
        rate -> Nullable<Float>,
        dropping_at -> Nullable<Timestamptz>,
        last_success_at -> Nullable<Timestamptz>,
        last_error -> Nullable<Jsonb>,
    }
}

table! {
    deliveries (id) {
        id -> Uuid,
        destination_id -> Uuid,
        org_id -> Uuid,
        canonical_id -> Uuid,
        event_id -> Uuid,
        seq -> BigInt,
        lane -> Binary,
        received_at -> Timestamptz,
        sealed -> Binary,
        attempts -> SmallInt,
        next_at -> Nullable<Timestamptz>,
        dead_at -> Nullable<Timestamptz>,
        reason -> Nullable<Text>,
        last_status -> Nullable<SmallInt>,
    }
}

table! {
    replays (id) {
        id -> Uuid,
        org_id -> Uuid,
        destination_id -> Uuid,
        from_at -> Timestamptz,
        to_at -> Timestamptz,
        events -> Array<Text>,
        position -> Nullable<BigInt>,
        sent -> BigInt,
        failed -> BigInt,
        state -> Text,
        started_by -> Text,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

table! {
    delivery_processes (id) {
        id -> Uuid,
        seen_at -> Timestamptz,
    }
}

table! {
    live_watches (source_id) {
        source_id -> Uuid,
        org_id -> Uuid,
        until -> Timestamptz,
    }
}

table! {
    live_events (source_id, seq) {
        source_id -> Uuid,
        seq -> BigInt,
        org_id -> Uuid,
        canonical_id -> Uuid,
        event_id -> Uuid,
        at -> Timestamptz,
        body -> Binary,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    delivery_cursors,
    destinations,
    deliveries,
    event_heads,
    replays
);

diesel::allow_tables_to_appear_in_same_query!(
    canonicals,
    collect_hosts,
    config_version,
    consent,
    erased,
    generated_ids,
    identity_sources,
    link_refusals,
    links,
    merge_history,
    orgs,
    pii_digests,
    pipeline_keys,
    pipelines,
    redis_repairs,
    resets,
    server_secrets,
    sources,
    sync_attempts,
    used_proofs,
    used_states,
    users,
    vendor_ids,
);
