//! Vendor IDs for some families, as their browsers and users might have brought them.

use harness::world::World;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{
    BROWSERS, FIELDS,
    canonical::Canonical,
    family::Family,
    op::{Vid, is_click, lives},
};

/// Stores vendor IDs for some families, in one statement. Mostly a browser brings them.
pub async fn give(world: &World, families: &mut [Family], vid: &mut Vid, random: &mut StdRng) {
    let (mut rows, mut gone, mut locked) = (Vec::new(), Vec::new(), Vec::new());
    for family in families {
        let is_root = |own: &&Canonical| own.merged_into.is_none() && !own.links.is_empty();
        let roots: Vec<&Canonical> = family.models[0].0.iter().filter(is_root).collect();
        let Some(own) = roots.choose(random) else { continue };
        let of_user = random.random_bool(0.1);
        let owners: Vec<u8> = own.links.keys().copied().filter(|id| (*id >= BROWSERS) == of_user).collect();
        let (Some(real), Some(owner)) = (own.name.clone(), owners.choose(random).copied()) else { continue };
        if !random.random_bool(0.6) {
            continue;
        }
        let field = *FIELDS.choose(random).unwrap();
        *vid += 1;
        let all = family.models.iter_mut().flat_map(|model| &mut model.0);
        for own in all.filter(|own| own.name.as_ref() == Some(&real)) {
            own.ids.insert((field, Some(owner)), *vid);
        }
        let source = if is_click(field) { "click" } else { "sync" };
        let life = if lives(*vid) { "now() + interval '90 days'" } else { "now() - interval '1 day'" };
        let (org, kind, owner) = (world.customer.org_id, u8::from(owner >= BROWSERS), family.text(owner));
        rows.push(format!(
            "('{org}', '{real}', '{field}', '{vid}', '{source}', \
             timestamptz '2026-01-01' + interval '1 ms' * {vid}, {life}, {kind}, '{owner}')"
        ));
        locked.push(format!("'{real}'"));
        gone.extend(["cvid", "syncs"].map(|kind| format!("{kind}:{org}:{real}")));
        gone.extend((0..BROWSERS).map(|id| format!("identity:{org}:{}", family.text(id))));
    }
    if rows.is_empty() {
        return;
    }
    // Locked as any writer does: the reaper may be writing anew what Redis serves of them.
    let sql = format!(
        "SELECT FROM canonicals WHERE id IN ({}) ORDER BY id FOR NO KEY UPDATE;
         INSERT INTO vendor_ids
             (org_id, canonical_id, field, value, source, collected_at, expires_at, owner_kind, owner)
         VALUES {} ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO UPDATE SET
             value = excluded.value, collected_at = excluded.collected_at, expires_at = excluded.expires_at",
        locked.join(", "),
        rows.join(", ")
    );
    world.database.execute(&sql).await;
    let command: Vec<&str> = ["DEL"].into_iter().chain(gone.iter().map(String::as_str)).collect();
    let _: i64 = world.redis(&command).await;
}
