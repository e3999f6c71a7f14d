//! Further questions, once the answers of a round have told who is who.

use harness::people::{People, beside, canonical};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::super::support::is_late;
use super::{BROWSERS, IDS, family::Family};

/// Families that are looked up in a round.
const LOOKUPS: usize = 2;

/// Asks for a canonical ID of each family, which may be a merged one's, with a browser of the family beside
/// it.
pub async fn ask_beside(people: &People, core: usize, families: &mut [Family], random: &mut StdRng) {
    let (mut asked, mut references) = (Vec::new(), Vec::new());
    for family in &mut *families {
        let names: Vec<_> = family.models[0].0.iter().filter_map(|own| own.name.clone()).collect();
        let Some(name) = names.choose(random).cloned() else { continue };
        let browser = random.random_range(0..BROWSERS);
        references.push(beside(canonical(&*name), family.text(browser)));
        asked.push((family, name, browser));
    }
    if asked.is_empty() {
        return;
    }
    let seen = people.vendor_ids_for(core, references).await;
    assert_eq!(seen.len(), asked.len());
    for ((family, name, browser), seen) in asked.into_iter().zip(&seen) {
        family.keep(&(&name, browser, seen), |model| model.answers(&name, browser, seen));
    }
}

/// Looks some people up, with the way of each identifier and the owner of each vendor ID.
pub async fn look_up(people: &People, families: &mut [Family], random: &mut StdRng) {
    for _ in 0..LOOKUPS {
        let family = &mut families[random.random_range(0..families.len())];
        let known: Vec<u8> = (0..IDS).filter(|id| family.models[0].home(*id).is_some()).collect();
        let Some(id) = known.choose(random).copied() else { continue };
        let person = match people.lookup(family.id(id)).await {
            Err(status) if is_late(&status) => continue,
            person => person.unwrap(),
        };
        let name = family.name.clone();
        family.keep(&person, |model| model.is(&name, id, &person));
    }
}
