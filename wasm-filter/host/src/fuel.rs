//! What an allowed `tools/call` costs the module, in instructions, phase by phase; the same on every machine.

use wasmtime::{Result, ensure};

use crate::gateway::Gateway;
use crate::profile::Profile;
use crate::sample;
use crate::vm::{Cost, Filter};

/// Exchanges that are measured, each in a session of its own as far as there are as many.
pub const EXCHANGES: usize = 200;
/// Exchanges between two ticks; as many are enough for a profile.
pub const PER_TICK: usize = 50;
const TICK_NANOS: u64 = 50_000_000;
/// Resources of one response of the control plane.
const CHUNK: usize = 1000;

/// Costs of [`EXCHANGES`] exchanges together, and of what goes on beside them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Headers, and the making of the context.
    pub headers: Cost,
    /// Body, where the verdict falls.
    pub body: Cost,
    /// Outcome and record.
    pub end: Cost,
    /// Ticks beyond what they cost when idle: the sending of events, the flushing of counters.
    pub tick: Cost,
    /// Acknowledgements of audit batches.
    pub ack: Cost,
    /// One tick without anything to do.
    pub idle_tick: Cost,
    /// One change of one session.
    pub change: Cost,
    /// Learning of all sessions and grants.
    pub fill: Cost,
    /// Memory that the VM has then, in bytes.
    pub memory_bytes: usize,
}

impl Sums {
    /// Instructions per exchange, all phases together.
    pub fn per_exchange(&self) -> u64 {
        let phases = [self.headers, self.body, self.end, self.tick, self.ack];
        let sum: u64 = phases.iter().map(|cost| cost.fuel).sum();
        sum / EXCHANGES as u64
    }
}

/// A gateway that knows this many sessions and grants, and what it cost to tell it.
///
/// # Errors
/// The module traps, or does not take them all.
pub fn filled(filter: &Filter, sessions: usize, grants: usize) -> Result<(Gateway, Cost)> {
    let mut gateway = Gateway::start(filter, sample::NOW_NANOS)?;
    ensure!(gateway.configure(&sample::configuration(&[sample::server()]))?, "configuration is refused");
    gateway.tick(TICK_NANOS)?;
    let mut cost = Cost::default();
    let numbers: Vec<usize> = (0..sessions.max(grants)).collect();
    for chunk in numbers.chunks(CHUNK) {
        let some: Vec<_> = chunk.iter().filter(|n| **n < grants).map(|n| sample::grant(*n)).collect();
        cost += gateway.send_grants(&some, &[])?;
        let some: Vec<_> =
            chunk.iter().filter(|n| **n < sessions).map(|n| sample::session(*n, grants)).collect();
        cost += gateway.send_sessions(&some, &[])?;
    }
    gateway.send_baseline(grants as u64, sessions as u64)?;
    gateway.tick(TICK_NANOS)?;
    Ok((gateway, cost))
}

/// Functions that the instructions of [`PER_TICK`] exchanges are run in; `filter` was loaded to count them.
///
/// # Errors
/// The module traps, or refuses a call.
pub fn profile(filter: &Filter, sessions: usize, grants: usize) -> Result<Profile> {
    let (mut gateway, _) = filled(filter, sessions, grants)?;
    run(&mut gateway, PER_TICK, sessions, grants, &mut Sums::default())?;
    gateway.proxy_mut().profile.clear();
    run(&mut gateway, PER_TICK, sessions, grants, &mut Sums::default())?;
    Ok(std::mem::take(&mut gateway.proxy_mut().profile))
}

/// Measures with this many sessions and grants.
///
/// # Errors
/// The module traps, or refuses a call.
pub fn measure(filter: &Filter, sessions: usize, grants: usize) -> Result<Sums> {
    let (mut gateway, fill) = filled(filter, sessions, grants)?;
    let mut sums = Sums { fill, ..Sums::default() };
    // The first calls pay for what later ones find done: tables grow, metrics are defined.
    run(&mut gateway, EXCHANGES, sessions, grants, &mut Sums::default())?;
    sums.idle_tick = gateway.tick(TICK_NANOS)?;
    run(&mut gateway, EXCHANGES, sessions, grants, &mut sums)?;
    sums.change = gateway.send_sessions(&[sample::session(0, grants)], &[])?;
    sums.memory_bytes = gateway.memory_bytes();
    Ok(sums)
}

fn run(
    gateway: &mut Gateway,
    exchanges: usize,
    sessions: usize,
    grants: usize,
    sums: &mut Sums,
) -> Result<()> {
    let step = sessions.checked_div(exchanges).unwrap_or(0).max(1);
    for number in 1..=exchanges {
        let session = number.saturating_mul(step).checked_rem(sessions).unwrap_or(0);
        let (fate, costs) = gateway.exchange(&sample::request(session, grants, sample::CALL))?;
        ensure!(fate.is_forwarded(), "a call that is granted is refused: {fate:?}");
        sums.headers += costs.headers;
        sums.body += costs.body;
        sums.end += costs.end;
        if number.is_multiple_of(PER_TICK) {
            let calls = gateway.proxy().calls.len();
            let cost = gateway.tick(TICK_NANOS)?;
            sums.tick.fuel = sums.tick.fuel.saturating_add(cost.fuel.saturating_sub(sums.idle_tick.fuel));
            sums.tick.host_calls = sums
                .tick
                .host_calls
                .saturating_add(cost.host_calls.saturating_sub(sums.idle_tick.host_calls));
            ensure!(gateway.proxy().calls.len() > calls, "no batch was sent");
            sums.ack += gateway.answer_call(0)?;
        }
    }
    Ok(())
}
