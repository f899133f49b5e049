//! What an allowed `tools/call` costs the filter, in Wasm instructions: `make bench-fuel`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use sallyport_filter_host::fuel::{EXCHANGES, PER_TICK, Sums, measure, profile};
use sallyport_filter_host::{Cost, Count, Filter};

fn main() -> wasmtime::Result<()> {
    let filter = Filter::built(Count::Callbacks)?;
    println!("Wasm instructions per allowed tools/call of 300 bytes, and calls on the host in brackets\n");
    println!(
        "{:>8} {:>7} {:>11} {:>11} {:>11} {:>11} {:>11} {:>8} | {:>9} {:>9} {:>9} {:>7}",
        "sessions",
        "grants",
        "headers",
        "body",
        "end",
        "tick",
        "ack",
        "all",
        "idle tick",
        "a change",
        "learn one",
        "memory"
    );
    for (sessions, grants) in [(10, 1), (10_000, 1_000), (100_000, 10_000)] {
        let sums = measure(&filter, sessions, grants)?;
        print_row(sessions, grants, &sums);
    }
    print_functions()
}

fn print_functions() -> wasmtime::Result<()> {
    println!(
        "\nof these, by function (with what its caller runs before the next call), and how often one begins\n"
    );
    let profile = profile(&Filter::built(Count::Functions)?, 100, 10)?;
    for (name, entry) in profile.functions().into_iter().take(25) {
        let begun = entry.begun as f64 / PER_TICK as f64;
        println!("{:>8} {begun:>7.1}  {name}", entry.fuel / PER_TICK as u64);
    }
    Ok(())
}

fn print_row(sessions: usize, grants: usize, sums: &Sums) {
    let cell = |cost: Cost| {
        let calls = cost.host_calls as f64 / EXCHANGES as f64;
        format!("{} [{calls:.1}]", cost.fuel / EXCHANGES as u64)
    };
    let learned = (sessions + grants) as u64;
    println!(
        "{sessions:>8} {grants:>7} {:>11} {:>11} {:>11} {:>11} {:>11} {:>8} | {:>9} {:>9} {:>9} {:>5} M",
        cell(sums.headers),
        cell(sums.body),
        cell(sums.end),
        cell(sums.tick),
        cell(sums.ack),
        sums.per_exchange(),
        sums.idle_tick.fuel,
        sums.change.fuel,
        sums.fill.fuel / learned,
        sums.memory_bytes >> 20,
    );
}
