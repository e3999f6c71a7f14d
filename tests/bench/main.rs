//! `make bench`: the product against the least that could do the same work, in one run: `docs/benchmarks.md`.

mod cpu;
mod floor;
mod http;
mod items;
mod load;
mod redis;
mod report;
mod seed;
mod size;
mod tenants;
mod visitors;
mod world;

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use harness::system::build_folder;

use crate::{
    items::{batch, creation, delivery, graph, resolve, sync, vendor_ids, vendor_ids::By},
    report::Report,
    world::World,
};

/// Measures CPU a request of the product and of its floors. Needs the release binaries beside it and Linux.
#[derive(Parser)]
enum Cli {
    /// Measures all items, or one.
    Run {
        /// Stored identities of the last step of growth.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(USUAL..))]
        identities: u64,
        /// Measures this item alone, with 100,000 identities.
        #[arg(long)]
        only: Option<Only>,
        /// Measures the commit that `make bench BASE=…` has built last in turns with this build.
        #[arg(long)]
        base: bool,
    },
    /// Serves as the core's floor.
    #[command(hide = true)]
    FloorCore(floor::core::Arguments),
    /// Serves as the edge's floor.
    #[command(hide = true)]
    FloorEdge(floor::edge::Arguments),
    /// Posts as the processor's floor.
    #[command(hide = true)]
    FloorDeliver(floor::deliver::Arguments),
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::FloorCore(arguments) => floor::core::run(arguments),
        Cli::FloorEdge(arguments) => floor::edge::run(arguments),
        Cli::FloorDeliver(arguments) => floor::deliver::run(&arguments),
        Cli::Run { identities, only, base } => bench(identities, only, base),
    }
}

/// A work item that can be measured alone, to try a change or to watch it with a profiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Resolve,
    Strings,
    Batch,
    VendorIds,
    Sync,
    Creation,
    Delivery,
    Graph,
    Tenants,
    Size,
}

/// Build of another commit, as the Makefile lays it out below the target folder.
struct Base {
    commit: String,
    binaries: PathBuf,
}

impl Base {
    fn find() -> Result<Self> {
        let folder =
            build_folder()?.join("../base").canonicalize().context("run `make bench BASE=…` first")?;
        let mut git = Command::new("git");
        git.arg("-C").arg(folder.join("source")).args(["log", "-1", "--format=%h", "HEAD"]);
        let output = git.output().context("git")?;
        ensure!(output.status.success(), "git log: {}", String::from_utf8_lossy(&output.stderr));
        let commit = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { commit, binaries: folder.join("target/release") })
    }
}

/// Identities that are stored while everything is measured.
const USUAL: u64 = 100_000;

#[tokio::main]
async fn bench(identities: u64, only: Option<Only>, base: bool) -> Result<()> {
    let began = Instant::now();
    let base = if base { Some(Base::find()?) } else { None };
    let progress = |what: &str| eprintln!("[{:>4.0} s] {what}", began.elapsed().as_secs_f32());
    let mut report = Report::against(base.as_ref().map(|base| base.commit.clone()));
    if only.is_none() {
        progress("weighing an identity");
        size::measure(&mut report).await?;
    }
    progress("starting the stores, the product and the floors");
    let mut world = World::start(base.as_ref().map(|base| base.binaries.as_path())).await?;
    if let Some(only) = only {
        world.grow(USUAL).await?;
        progress("measuring");
        match only {
            Only::Resolve => resolve::measure(&world, &mut report).await?,
            Only::Strings => resolve::measure_strings(&world, &mut report).await?,
            Only::Batch => batch::measure(&world, &mut report).await?,
            Only::VendorIds => vendor_ids::measure(&world, &mut report, 1000, By::AnonymousId).await?,
            Only::Sync => sync::measure(&world, &mut report).await?,
            Only::Delivery => delivery::measure(&world, &mut report).await?,
            Only::Creation => creation::measure(&world, &mut report).await?,
            Only::Graph => graph::measure(&world, &mut report).await?,
            Only::Tenants => tenants::measure(&world, &mut report).await?,
            Only::Size => size::measure(&mut report).await?,
        }
        return report.publish();
    }
    let mut steps = vec![1_000, USUAL, identities];
    steps.dedup();
    for step in steps {
        progress(&format!("{step} identities"));
        world.grow(step).await?;
        progress("Resolve");
        resolve::measure(&world, &mut report).await?;
        progress("/v1/batch");
        batch::measure(&world, &mut report).await?;
        progress("VendorIds");
        vendor_ids::measure(&world, &mut report, 1000, By::AnonymousId).await?;
        if step == USUAL {
            vendor_ids::measure(&world, &mut report, 1, By::AnonymousId).await?;
            vendor_ids::measure(&world, &mut report, 100, By::AnonymousId).await?;
            vendor_ids::measure(&world, &mut report, 1000, By::CanonicalId).await?;
            resolve::measure_due(&world, &mut report).await?;
            resolve::measure_strings(&world, &mut report).await?;
            progress("/v1/sync");
            sync::measure(&world, &mut report).await?;
            progress("new visitors");
            creation::measure(&world, &mut report).await?;
            progress("logins and merges");
            graph::measure(&world, &mut report).await?;
            progress("delivery");
            delivery::measure(&world, &mut report).await?;
            progress("two customers");
            tenants::measure(&world, &mut report).await?;
            progress("shapes of the runtime");
            resolve::compare_shapes(&world, &mut report).await?;
        }
    }
    progress("done");
    report.publish()
}
