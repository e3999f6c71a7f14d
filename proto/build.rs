//! Compiles the contract without protoc, and keeps the descriptor set for reflection.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let folder = root.join("datafly/identity/v1");
    let mut files: Vec<_> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "proto"))
        .collect();
    files.sort();
    println!("cargo:rerun-if-changed={}", folder.display());

    let descriptors = protox::compile(&files, [&root])?;
    // `file_descriptor_set_path` writes nothing when the descriptors come from outside.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Maps are small, and answers are easier to compare in one order.
    // A subject may hold an email in clear, which must get into no log.
    let subject = ".datafly.identity.v1.Subject";
    tonic_prost_build::configure().btree_map(".").skip_debug([subject]).compile_fds(descriptors)?;
    Ok(())
}
