//! Profiles of the running process, for who has its admin port, and only with `--profiling`: they cost time while they are taken.
//!
//! - `GET /debug/pprof/profile?seconds=N`: where time on the CPU goes. Folded stacks, one per line with its samples, as flame
//!   graph tools read them.
//! - `GET /debug/pprof/heap`: who allocated what is there. A profile in pprof's format, with names.
//! - `GET /debug/memory`: what memory is there, and what it is for.

mod account;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use jemalloc_pprof::PROF_CTL;
use pprof::{Frames, ProfilerGuardBuilder, Report};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::admin::Shared;

/// Samples in a second; no multiple of what timers run by.
const FREQUENCY: i32 = 99;
const DEFAULT_SECONDS: u64 = 10;
const LONGEST_SECONDS: u64 = 60;
/// Unwinding within these can wait for a lock that the interrupted thread holds.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

type Failure = (StatusCode, String);

/// The profiles.
pub(crate) fn router(shared: Shared) -> Router {
    let turn = Arc::new(Semaphore::new(1));
    let profile = get(move |query| cpu(turn.clone(), query));
    keep_account();
    Router::new()
        .route("/debug/pprof/profile", profile)
        .route("/debug/pprof/heap", get(heap))
        .route("/debug/memory", get(account::told))
        .with_state(shared)
}

#[derive(Debug, Deserialize)]
struct For {
    seconds: Option<u64>,
}

async fn cpu(turn: Arc<Semaphore>, Query(length): Query<For>) -> Result<String, Failure> {
    let seconds = length.seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=LONGEST_SECONDS).contains(&seconds) {
        let message = format!("seconds is {seconds}; must be 1 to {LONGEST_SECONDS}\n");
        return Err((StatusCode::BAD_REQUEST, message));
    }
    let busy =
        |_| (StatusCode::CONFLICT, "a profile is being taken; try again when it is done\n".to_string());
    let _turn = turn.try_acquire_owned().map_err(busy)?;
    tracing::info!(seconds, "taking a CPU profile");
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error + "\n");
    let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&BLOCKED).build();
    let guard = guard.map_err(|error| failed(error.to_string()))?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // Finding names takes a while.
    let naming = tokio::task::spawn_blocking(move || guard.report().build().map(|report| folds(&report)));
    naming.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

/// All stacks, each once, with their samples.
fn folds(report: &Report) -> String {
    let mut stacks: BTreeMap<String, isize> = BTreeMap::new();
    for (frames, samples) in &report.data {
        *stacks.entry(folded(frames)).or_default() += samples;
    }
    stacks.into_iter().map(|(stack, samples)| format!("{stack} {samples}\n")).collect()
}

/// A stack from its beginning to where it was interrupted. The separators stand in no other place.
fn folded(frames: &Frames) -> String {
    let symbols = frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
    let names = std::iter::once(frames.thread_name.clone()).chain(symbols.map(ToString::to_string));
    names.map(|name| name.replace([';', '\n'], ":")).collect::<Vec<_>>().join(";")
}

/// What is allocated now, of what was since the account began.
async fn heap() -> Result<impl IntoResponse, Failure> {
    let control = PROF_CTL.clone().ok_or_else(|| {
        let message = "this build's allocator keeps no account by caller; build with .cargo/config.toml\n";
        (StatusCode::NOT_IMPLEMENTED, message.to_string())
    })?;
    tracing::info!("taking a heap profile");
    let taking = tokio::task::spawn_blocking(move || control.blocking_lock().dump_pprof());
    let profile = taking.await.map_err(anyhow::Error::from).flatten();
    let failed =
        |error: anyhow::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("heap profile: {error:#}\n"));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], profile.map_err(failed)?))
}

/// Begins the account by caller: what is allocated from now on is in profiles of the heap.
fn keep_account() {
    let Some(control) = &*PROF_CTL else { return };
    let begun = control.try_lock().map(|mut control| control.activate().map_err(|error| error.to_string()));
    match begun.map_err(|error| error.to_string()).flatten() {
        Ok(()) => tracing::info!("allocations are sampled"),
        Err(error) => tracing::warn!(error, "allocations are not sampled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_names_who_works() {
        let guard = ProfilerGuardBuilder::default().frequency(999).blocklist(&BLOCKED).build().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let has_samples =
            || guard.report().build().unwrap().data.keys().any(|frames| folded(frames).contains("who_works"));
        while !has_samples() {
            assert!(std::time::Instant::now() < deadline, "nothing was sampled");
        }
    }
}
