//! Profiles of the running process, for who has its admin port, and only with `--profiling`: they cost time while they are taken.
//!
//! - `GET /debug/pprof/profile?seconds=N`: where time on the CPU goes. Folded stacks, one per line with its samples, as flame
//!   graph tools read them.
//! - `GET /debug/pprof/heap`: what memory is there, and what it is for. The allocator is the system's, which keeps no account by
//!   caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use pprof::{Frames, ProfilerGuardBuilder, Report};
use sallyport_api::Kind;
use sallyport_operator_xds::{World, types};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::admin::Shared;
use crate::lock::lock;

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
    Router::new()
        .route("/debug/pprof/profile", profile)
        .route("/debug/pprof/heap", get(heap))
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

async fn heap(State(shared): State<Shared>) -> Result<Json<Value>, Failure> {
    // It goes over all mappings.
    let read = tokio::task::spawn_blocking(|| std::fs::read_to_string("/proc/self/smaps")).await;
    let text = read.map_err(std::io::Error::other).flatten();
    let text =
        text.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("/proc/self/smaps: {error}\n")))?;
    let mut resources: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut streams = 0;
    for (_, tracked) in shared.enforcement.targets.all() {
        streams += tracked.target.proxies.connected();
        let size = |world: &World, type_url| {
            let sizes = world.all(type_url).map(|(_, stored)| stored.body.value.len());
            sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
        };
        let sizes = tracked.target.world.read(|world| types::ALL.map(|type_url| size(world, type_url))).await;
        for (type_url, (count, bytes)) in types::ALL.into_iter().zip(sizes) {
            let sum = resources.entry(type_url).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
    }
    let mut objects: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, _) in lock(&shared.enforcement.index).keys() {
        *objects.entry(Kind::as_str(kind)).or_default() += 1;
    }
    let held = |(type_url, (count, bytes)): (&str, (usize, usize))| {
        (type_url.to_string(), json!({ "count": count, "bytes": bytes }))
    };
    let held: serde_json::Map<String, Value> = resources.into_iter().map(held).collect();
    let resident = resident(&text);
    Ok(Json(json!({ "residentBytes": resident, "objects": objects, "resources": held, "streams": streams })))
}

/// What of the memory is resident, in bytes by what it is: `heap` and `anonymous` have what was allocated, also what was given
/// back to the allocator and not to the system.
fn resident(smaps: &str) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::from([("heap", 0), ("anonymous", 0), ("stack", 0), ("files", 0)]);
    let mut of = "files";
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(kilobytes)) => {
                *sums.entry(of).or_default() += kilobytes.parse().unwrap_or(0) * 1024;
            }
            // A mapping: addresses, rights, offset, device, inode, name.
            (Some(addresses), Some(_)) if !addresses.ends_with(':') => {
                of = match words.nth(3) {
                    Some("[heap]") => "heap",
                    Some("[stack]") => "stack",
                    Some(_) => "files",
                    None => "anonymous",
                };
            }
            (_, _) => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_told_by_what_it_is() {
        let smaps = "55d0-55d1 r-xp 00000000 08:01 42                         /usr/bin/sallyport\nSize:  9 kB\nRss:   4 kB\n\
                     55e0-55f0 rw-p 00000000 00:00 0                          [heap]\nRss:   8 kB\nVmFlags: rd wr\n\
                     7f00-7f10 rw-p 00000000 00:00 0 \nRss:  16 kB\n7f20-7f30 rw-p 00000000 00:00 0 \nRss:  16 kB\n\
                     7ffc-7ffd rw-p 00000000 00:00 0                          [stack]\nRss:   1 kB\n";
        let expected = [("heap", 8), ("anonymous", 32), ("stack", 1), ("files", 4)];
        assert_eq!(resident(smaps), expected.map(|(of, kilobytes)| (of, kilobytes * 1024)).into());
    }

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
