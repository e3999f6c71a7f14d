//! The floors of each crate: a folder, or a file beside the folders, imports from floors below its own alone, so that
//! there is no ring. The `use` lines and paths of the sources are read, those of unit tests left out.

use std::{collections::BTreeMap, fs, path::Path};

use harness::imports;

/// Floors from the ground up. What stands on one floor doesn't import each other.
type Floors = &'static [&'static [&'static str]];

const CORE: Floors = &[
    &["clock", "error", "identifiers", "limits"],
    &["vendors"],
    &["consent", "pii"],
    &["settings"],
    &["auth"],
    &["storage"],
    &["vendor_ids"],
    &["graph"],
    &["providers"],
    &["enrich", "first_party_ids", "profile", "sync"],
    &["resolve"],
    &["consistency", "delivery", "identity_admin"],
    &["laws"],
    &["app"],
    &["grpc"],
    &["config"],
    &["run"],
    &["lib"],
    &["main"],
];

const EDGE: Floors = &[
    &["config", "cookies", "error", "finish_on_drop", "without_delivery"],
    &["memory"],
    &["gzip"],
    &["body", "core_client", "event", "query", "throttle"],
    &["caller", "vendor_cookies"],
    &["subjects"],
    &["laws", "routes"],
    &["run"],
    &["lib"],
    &["main"],
];

const MANAGEMENT: Floors = &[
    &["api", "config", "json", "postgres_supervisor"],
    &["auth", "core_client", "crypto"],
    &["catalog", "free_host", "owner", "provider"],
    &["state"],
    &["routes"],
    &["main"],
];

const CRATES: &[(&str, Floors)] =
    &[("identity-service", CORE), ("http-edge", EDGE), ("management", MANAGEMENT)];

#[test]
fn every_folder_imports_from_floors_below_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, floors) in CRATES {
        let height: BTreeMap<&str, usize> = floors
            .iter()
            .enumerate()
            .flat_map(|(height, folders)| folders.iter().map(move |folder| (*folder, height)))
            .collect();
        let sources = root.join(name).join("src");
        for entry in fs::read_dir(&sources).unwrap() {
            let folder = entry.unwrap().file_name().into_string().unwrap();
            let folder = folder.trim_end_matches(".rs");
            assert!(folder == "tests" || height.contains_key(folder), "{name}: {folder} stands on no floor");
        }
        let mut wrong = Vec::new();
        let imports = imports::of(&sources).unwrap();
        assert!(imports.len() > floors.len(), "{name}: {} imports are too few to be all", imports.len());
        for import in imports {
            let (from, to) = (height[import.from.as_str()], height.get(import.to.as_str()));
            // A name that is no folder is an item of the crate's root, such as a macro.
            if to.is_some_and(|to| *to >= from) {
                wrong.push(format!("{} → {} in {}", import.from, import.to, import.file.display()));
            }
        }
        assert!(wrong.is_empty(), "{name}: imports from the same floor or above: {wrong:#?}");
    }
}
