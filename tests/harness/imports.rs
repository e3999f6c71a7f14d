//! The imports of a crate's sources: which of its folders uses which.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// An import from another folder of the same crate, or from a file beside the folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The folder, or the file without its ending, that imports.
    pub from: String,
    /// The folder or file that is imported from.
    pub to: String,
    /// The file that the import stands in.
    pub file: PathBuf,
}

/// The imports of all files below `sources`, the `src` of a crate; unit tests are left out, and `tests` folders and
/// files.
pub fn of(sources: &Path) -> Result<Vec<Import>> {
    let mut found = Vec::new();
    let mut folders = vec![sources.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let module = module(path.strip_prefix(sources)?);
                for to in uses(&fs::read_to_string(&path)?, &module) {
                    let from = module.first().cloned().unwrap_or_default();
                    if from != to {
                        found.push(Import { from, to, file: path.clone() });
                    }
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The path of a file's module: `storage/redis/mod.rs` is `storage`, `redis`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The folders that a file of `module` names in paths that begin with `crate` or `super`.
fn uses(text: &str, module: &[String]) -> Vec<String> {
    let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(code, _)| code);
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || "_:$".contains(char)) {
            continue;
        }
        let mut rest = &code[at..];
        // The folder in which the names that follow are looked up.
        let mut base = module.to_vec();
        if let Some(after) = rest.strip_prefix("crate::") {
            base.clear();
            rest = after;
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        // Names below a folder of the crate's are in that folder.
        match base.first() {
            Some(folder) => found.push(folder.clone()),
            None => found.extend(names(rest)),
        }
    }
    found
}

/// The first names of a path or a tree of paths: `a::b` is `a`, `{a::{b, c}, d}` is `a` and `d`.
fn names(tree: &str) -> Vec<String> {
    let Some(inner) = tree.strip_prefix('{') else { return vec![name(tree)] };
    let (mut depth, mut found, mut rest) = (1, Vec::new(), inner);
    let mut begins = true;
    while depth > 0 {
        let Some(char) = rest.chars().next() else { break };
        if begins && depth == 1 && (char.is_alphabetic() || char == '_') {
            found.push(name(rest));
            begins = false;
        }
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => begins = true,
            _ => {}
        }
        rest = &rest[char.len_utf8()..];
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str, module: &str) -> Vec<String> {
        uses(text, &module.split('/').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_way_to_name_a_folder_is_read() {
        let text = "use super::{x, y};\npub use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::f as g;\n\
            // use crate::comment;\nfn f(_: crate::h::I) -> super::super::j::K {}\n\
            #[cfg(test)]\nmod tests {\n    use crate::only_tests;\n}\n";
        let mut found = of_text(text, "own/file");
        found.sort();
        assert_eq!(found, ["a", "d", "e", "h", "j", "own"]);
        assert_eq!(of_text("use super::{a::b, c};", "file"), ["a", "c"]);
    }

    #[test]
    fn a_folder_s_own_file_is_its_module() {
        assert_eq!(module(Path::new("storage/redis/mod.rs")), ["storage", "redis"]);
        assert_eq!(module(Path::new("storage/redis/keys.rs")), ["storage", "redis", "keys"]);
        assert_eq!(module(Path::new("run.rs")), ["run"]);
    }
}
