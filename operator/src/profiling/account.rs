//! What memory is there, and what it is for.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sallyport_api::Kind;
use sallyport_operator_xds::{World, types};
use serde_json::{Value, json};

use super::Failure;
use crate::admin::Shared;
use crate::lock::lock;

/// As JSON.
pub(super) async fn told(State(shared): State<Shared>) -> Result<Json<Value>, Failure> {
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
}
