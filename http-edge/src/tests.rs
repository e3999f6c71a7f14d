//! What the crate as a whole must be.

use std::process::Command;

/// Design section 2: the edge has no store.
#[test]
fn the_dependency_tree_has_no_store() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", "http-edge"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("axum v"));
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap();
        let store =
            ["diesel", "redis", "postgres", "migrations", "bb8"].iter().any(|part| name.contains(part));
        assert!(!store, "{line}");
    }
}
