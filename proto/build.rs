//! Compiles the contract without protoc, and keeps the descriptor set for reflection.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files = Vec::new();
    for package in ["datafly/event/v1", "datafly/identity/v1"] {
        let folder = root.join(package);
        println!("cargo:rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();

    let descriptors = protox::compile(&files, [&root])?;
    // `file_descriptor_set_path` writes nothing when the descriptors come from outside.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Maps are small, and answers are easier to compare in one order.
    // A subject and an event may hold an email in clear, which must get into no log.
    let personal = [
        ".datafly.event.v1.Envelope",
        ".datafly.identity.v1.CollectedEvent",
        ".datafly.identity.v1.DeliveredEvent",
        ".datafly.identity.v1.Subject",
    ];
    tonic_prost_build::configure().btree_map(".").skip_debug(personal).compile_fds(descriptors)?;
    Ok(())
}
