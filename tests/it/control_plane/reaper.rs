//! Rows of the control plane that the reaper takes. Those of visitors are in `graph::erasure`.

use std::time::Duration;

use harness::{within, world::World};

#[tokio::test]
async fn the_control_plane_s_past_goes_too() {
    let world = World::start().await;
    let org = world.customer.org_id;
    world
        .database
        .execute(&format!(
            "INSERT INTO users (id, org_id, email, name, role, password_hash) \
                 VALUES ('{org}', '{org}', 'a@example.com', 'A', 'owner', 'x'); \
             INSERT INTO sessions (id, org_id, user_id, created_at, expires_at, revoked_at) \
                 SELECT gen_random_uuid(), '{org}', '{org}', now() - interval '40 days', now() + ends, now() + revoked \
                 FROM (VALUES (interval '6 days', NULL), ('-6 days', NULL), ('-8 days', NULL), \
                     ('3 days', interval '-6 days'), ('3 days', '-8 days')) AS made (ends, revoked); \
             INSERT INTO refresh_tokens (jti, org_id, session_id, token_hash, expires_at) \
                 SELECT gen_random_uuid(), org_id, id, decode(repeat('00', 32), 'hex'), expires_at FROM sessions; \
             INSERT INTO refresh_tokens (jti, org_id, session_id, token_hash, expires_at) \
                 SELECT gen_random_uuid(), org_id, id, decode(repeat('00', 32), 'hex'), now() - interval '8 days' \
                 FROM sessions; \
             INSERT INTO audit_log (id, org_id, at, action, resource_type, resource_id, ip, user_agent) \
                 SELECT gen_random_uuid(), '{org}', now() - age, 'source.created', 'source', 'x', '', '' \
                 FROM unnest(ARRAY[interval '89 days', '91 days', '400 days']) AS age; \
             INSERT INTO login_failures (key, times, since) \
                 SELECT sha256(age::text::bytea), 1, now() - age FROM unnest(ARRAY[interval '23 hours', '25 hours']) AS age"
        ))
        .await;
    // It looks every 10 s, and not while PostgreSQL is late.
    within(Duration::from_secs(60), "the reaper", async || {
        let mut left = Vec::new();
        for table in ["sessions", "refresh_tokens", "audit_log", "login_failures"] {
            left.push(world.database.count(table, "true").await);
        }
        if left == [3, 3, 1, 1] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let kept = world.database.count("sessions", "expires_at > now() - interval '7 days'").await;
    let kept_audit = world.database.count("audit_log", "at > now() - interval '90 days'").await;
    let kept_tokens = world.database.count("refresh_tokens", "expires_at > now() - interval '7 days'").await;
    assert_eq!((kept, kept_audit, kept_tokens), (3, 1, 3));
}
