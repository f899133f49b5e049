//! What an allowed `tools/call` costs the filter, in Wasm instructions: `make bench-fuel`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use sallyport_filter_host::fuel::{Sums, measure, per_exchange};
use sallyport_filter_host::{Cost, Filter};

fn main() -> wasmtime::Result<()> {
    let filter = Filter::built()?;
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
    Ok(())
}

fn print_row(sessions: usize, grants: usize, sums: &Sums) {
    let cell = |cost: Cost| {
        let calls = cost.host_calls as f64 / sallyport_filter_host::fuel::EXCHANGES as f64;
        format!("{} [{calls:.1}]", per_exchange(cost.fuel))
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
