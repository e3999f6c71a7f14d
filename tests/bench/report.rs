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

/// Percent by which an item may be dearer than at the base before it is marked.
const WORSE: f64 = 3.0;

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
    /// Absent where no base is measured, or the item has no product.
    base: Option<Base>,
}

/// Figures of the base's product, and today's against it.
#[derive(Debug, Clone, Serialize)]
struct Base {
    figures: Figures,
    /// Base to floor, as [`Line::ratio`].
    ratio: f64,
    /// Today's CPU a request against the base's, in percent: the rounds' lower quartile, median and upper
    /// quartile. Of 11 rounds with independent errors the true median lies between those quartiles 93 times
    /// in 100.
    change: [f64; 3],
    /// True where the median is more than [`WORSE`].
    worse: bool,
}

impl Base {
    fn mark(&self) -> &'static str {
        match self.change {
            [lower, ..] if self.worse && lower > 0.0 => "✗",
            _ if self.worse => "?",
            _ => " ",
        }
    }
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
    /// Commit that today's product is compared with.
    base: Option<String>,
    items: Vec<Item>,
    lines: Vec<Line>,
    bytes_per_identity: Vec<Size>,
    tenants: Option<Tenants>,
}

impl Report {
    /// Begins a report against that commit, if any.
    pub fn against(base: Option<String>) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes down a comparison, and says its ratios on standard error. `sides` are the rounds of the floor,
    /// of today's product, and of the base's where it is measured.
    pub fn add(&mut self, item: &Item, identities: u64, sides: &[Vec<Round>]) {
        let (floor, product, base) = (&sides[0], &sides[1], sides.get(2));
        if self.items.iter().all(|known| known.name != item.name) {
            self.items.push(item.clone());
        }
        for (at, (process, target)) in item.processes.iter().copied().enumerate() {
            let [_, ratio, _] = quartiles(ratios(product, floor, at));
            let base = base.map(|base| {
                let change = quartiles(ratios(product, base, at)).map(|ratio| 100.0 * (ratio - 1.0));
                let [_, ratio, _] = quartiles(ratios(base, floor, at));
                Base { figures: figures(base, at), ratio, change, worse: change[1] > WORSE }
            });
            let change = base.as_ref().map(|base| format!(", {:+.1} %", base.change[1])).unwrap_or_default();
            let line = Line {
                item: item.name.clone(),
                identities,
                process,
                floor: figures(floor, at),
                product: figures(product, at),
                ratio,
                target,
                met: target.map(|target| ratio <= target),
                base,
            };
            eprintln!("  {}: {process} {ratio:.2} ×{change}", item.name);
            self.lines.push(line);
        }
    }

    /// Takes down a comparison of [`edges`](crate::items::edges), and the same of each product's edge alone.
    pub fn add_edges(&mut self, item: &Item, identities: u64, sides: &[Vec<Round>]) {
        let (together, alone) = sides.split_at(sides.len().div_ceil(2));
        self.add(item, identities, together);
        self.add(&item.edge_alone(), identities, &[&sides[..1], alone].concat());
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

    /// Prints what has changed since the base.
    fn print_changes(&self) {
        let Some(commit) = &self.base else { return };
        println!(
            "\n{:<40}{:>9} {:<9}{:>9}{:>9}{:>8}{:>8}{:>10}   quartiles",
            format!("against {commit}"),
            "stored",
            "CPU of",
            "base µs",
            "ours µs",
            "base ×",
            "ours ×",
            "change"
        );
        for line in &self.lines {
            let Line { item, identities, process, product, ratio: ours, .. } = line;
            let Some(base) = &line.base else { continue };
            let Base { figures, ratio, change: [lower, change, upper], .. } = base;
            let (old, new, mark) = (figures.cpu_us, product.cpu_us, base.mark());
            println!(
                "{item:<40}{identities:>9} {process:<9}{old:>9.1}{new:>9.1}{ratio:>8.2}{ours:>8.2}{change:>+8.1} % \
                 {mark} {lower:+.1} … {upper:+.1} %"
            );
        }
        println!(
            "×: to the floor. ✗: dearer than the base by more than {WORSE} %; ?: so too, but 0 lies between the quartiles \
             of the rounds, so that it may be noise."
        );
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
        self.print_changes();
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
    let [_, cpu_us, _] = quartiles(rounds.iter().map(|round| round.cpu[at]));
    let [_, per_second, _] = quartiles(rounds.iter().map(|round| round.per_second));
    Figures { cpu_us, per_second }
}

/// CPU a request of one side to that of the other in each round.
fn ratios(side: &[Round], to: &[Round], at: usize) -> impl Iterator<Item = f64> {
    side.iter().zip(to).map(move |(side, to)| side.cpu[at] / to.cpu[at])
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    [values[quarter], values[values.len() / 2], values[values.len() - 1 - quarter]]
}
