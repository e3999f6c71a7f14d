//! The frame of the fuzz targets: each has the laws of one kind of input checked on whatever libFuzzer comes up with. The
//! laws, and the seeds to begin with, are the crates' own.

use std::{env, fs, path::PathBuf};

/// Puts the seeds into the corpus, which is the folder that the target is started with.
pub fn plant(seeds: &[Vec<u8>]) {
    let Some(corpus) = env::args_os().nth(1).map(PathBuf::from).filter(|corpus| corpus.is_dir()) else {
        return;
    };
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number}")), seed).expect("the corpus takes its seeds");
    }
}

/// A target that checks the laws of a module.
#[macro_export]
macro_rules! target {
    ($($laws:tt)+) => {
        libfuzzer_sys::fuzz_target!(
            init: $crate::plant(&$($laws)+::seeds()),
            |input: &[u8]| $($laws)+::hold(input)
        );
    };
}
