//! Properties of the crate as a whole, and of the packages that all of them share.

use std::process::Command;

/// Names of the packages that `cargo tree` lists.
fn tree(of: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "--format", "{p}"])
        .args(of)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> =
        tree.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect();
    assert!(names.iter().any(|name| name == "axum"), "{tree}");
    names
}

/// Holds the edge to having no store: it translates, and data is the core's alone.
#[test]
fn the_dependency_tree_has_no_store() {
    for name in tree(&["--edges", "normal", "--package", "http-edge"]) {
        let store =
            ["diesel", "redis", "postgres", "migrations", "bb8"].iter().any(|part| name.contains(part));
        assert!(!store, "{name}");
    }
}

/// Holds the workspace to one TLS stack: of two rustls would take neither, and panic at the first handshake.
/// The lock file names what optional features would bring as well, so it can't tell.
#[test]
fn there_is_one_tls_stack() {
    let names = tree(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(names.iter().any(|name| name == "aws-lc-rs"), "{names:?}");
    for name in names {
        assert!(!["ring", "openssl", "openssl-sys", "native-tls"].contains(&name.as_str()), "{name}");
    }
}
