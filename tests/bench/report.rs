//! Report at the end: a table for people, and the same as JSON.

use std::fs;

use anyhow::Result;
use harness::system::build_folder;
use serde::Serialize;

use crate::{
    load::{ROUND, ROUNDS, Round},
    tenants::Tenants,
};

/// A comparison, and what its floor does.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Request that is measured.
    pub name: String,
    /// Work that the floor does for it.
    pub floor: &'static str,
    /// Processes whose CPU is compared, in the order of the meters, with the highest ratio that is good.
    pub processes: Vec<(&'static str, Option<f64>)>,
}

impl Item {
    /// The same of the product's edge over the floor's core.
    pub fn edge_alone(&self) -> Self {
        Self {
            name: format!("{}: edge alone", self.name),
            floor: "the same; `ours` is the product's edge over the floor's core",
            processes: vec![("edge", None)],
        }
    }
}

/// Figures of one process in one comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    item: String,
    /// Visitors that were stored.
    identities: u64,
    process: &'static str,
    floor: Figures,
    product: Figures,
    /// Product to floor, CPU a request: the median of the rounds' ratios.
    ratio: f64,
    target: Option<f64>,
    /// Absent where there is no target.
    met: Option<bool>,
}

/// Medians of the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    cpu_us: f64,
    per_second: f64,
}

/// Bytes one identity takes.
#[derive(Debug, Clone, Serialize)]
pub struct Size {
    /// Data that each identity had.
    pub what: &'static str,
    /// Bytes in Redis, with all that it keeps about a key.
    pub redis: f64,
    /// Bytes in PostgreSQL, tables and indexes.
    pub postgres: f64,
}

/// Results of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    cores: usize,
    items: Vec<Item>,
    lines: Vec<Line>,
    bytes_per_identity: Vec<Size>,
    tenants: Option<Tenants>,
}

impl Report {
    /// Takes down a comparison, and says its ratios on standard error.
    pub fn add(&mut self, item: &Item, identities: u64, floor: &[Round], product: &[Round]) {
        if self.items.iter().all(|known| known.name != item.name) {
            self.items.push(item.clone());
        }
        for (at, (process, target)) in item.processes.iter().copied().enumerate() {
            let ratio =
                median(floor.iter().zip(product).map(|(floor, product)| product.cpu[at] / floor.cpu[at]));
            let line = Line {
                item: item.name.clone(),
                identities,
                process,
                floor: figures(floor, at),
                product: figures(product, at),
                ratio,
                target,
                met: target.map(|target| ratio <= target),
            };
            eprintln!("  {}: {process} {ratio:.2} ×", item.name);
            self.lines.push(line);
        }
    }

    /// Takes down what an identity weighs.
    pub fn add_size(&mut self, size: Size) {
        eprintln!("  {}: Redis {:.0} bytes, PostgreSQL {:.0} bytes", size.what, size.redis, size.postgres);
        self.bytes_per_identity.push(size);
    }

    /// Takes down what one customer does to another.
    pub fn add_tenants(&mut self, tenants: Tenants) {
        self.tenants = Some(tenants);
    }

    /// Prints the tables and writes `target/bench.json`.
    pub fn publish(mut self) -> Result<()> {
        self.cores = std::thread::available_parallelism()?.get();
        println!(
            "\n{:<40}{:>9} {:<9}{:>9}{:>9}{:>8}{:>8}   {:>10}{:>10}",
            "work item", "stored", "CPU of", "floor µs", "ours µs", "ratio", "target", "floor /s", "ours /s"
        );
        for line in &self.lines {
            let Line { item, identities, process, floor, product, ratio, .. } = line;
            let target = line.target.map(|target| format!("{target:.2}")).unwrap_or_default();
            let mark = match line.met {
                Some(true) => " ✓",
                Some(false) => " ✗",
                None => "  ",
            };
            println!(
                "{item:<40}{identities:>9} {process:<9}{:>9.1}{:>9.1}{ratio:>8.2}{target:>8}{mark} {:>10.0}{:>10.0}",
                floor.cpu_us, product.cpu_us, floor.per_second, product.per_second
            );
        }
        println!("\nbytes an identity{:>38}{:>12}", "Redis", "PostgreSQL");
        for Size { what, redis, postgres } in &self.bytes_per_identity {
            println!("  {what:<48}{redis:>5.0}{postgres:>12.0}");
        }
        if let Some(Tenants { alone, within_rate, flooded, bombed, refused }) = self.tenants {
            println!("\na quiet customer's batch, while another    p50 µs    p99 µs");
            for (what, waits) in [
                ("is away", alone),
                ("keeps to its rate", within_rate),
                ("brings ten times its rate", flooded),
                ("merges browsers at its rate", bombed),
            ] {
                println!("  {what:<36}{:>10.0}{:>10.0}", waits.p50_us, waits.p99_us);
            }
            println!("  (of the flood {:.0} % was refused)", refused * 100.0);
        }
        println!("\nWhat the floors do:");
        for item in &self.items {
            println!("  {}: {}", item.name, item.floor);
        }
        println!(
            "\n{} cores. Medians of {ROUNDS} rounds of {:.1} s in turn; ✓: within the target, ✗: over it.",
            self.cores,
            ROUND.as_secs_f32()
        );
        let path = build_folder()?.join("../bench.json");
        fs::write(&path, serde_json::to_string_pretty(&self)?)?;
        println!("The same as JSON: {}", path.canonicalize()?.display());
        Ok(())
    }
}

fn figures(rounds: &[Round], at: usize) -> Figures {
    Figures {
        cpu_us: median(rounds.iter().map(|round| round.cpu[at])),
        per_second: median(rounds.iter().map(|round| round.per_second)),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
