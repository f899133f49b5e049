//! `sallyport audit status`.

use serde_json::Value;

use crate::client::{ApiArgs, Client};
use crate::commands::say;

pub(crate) async fn run(args: &ApiArgs) -> anyhow::Result<()> {
    let told = Client::new(args)?.get("audit/integrity", &[]).await?;
    lines(&told).iter().for_each(|line| say(line));
    Ok(())
}

fn lines(told: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for server in items(told, "/servers") {
        let chains = items(server, "/chains");
        let events: u64 = chains.iter().map(|chain| number(chain, "/events")).sum();
        let name = format!("{}/{}", text(server, "/namespace"), text(server, "/server"));
        let (count, last) = (chains.len(), text(server, "/last_event"));
        lines.push(format!(
            "{name}: {events} events of {count} chains, {} missing, last {last}",
            number(server, "/missing")
        ));
        for gap in items(server, "/gaps") {
            let chain = |name: &str| text(gap, &format!("/payload/chain/{name}")).to_string();
            lines.push(format!(
                "  {} {}: {} missing from worker {} of {} ({})",
                text(gap, "/timestamp"),
                text(gap, "/event_type"),
                number(gap, "/payload/missing"),
                number(gap, "/payload/chain/worker"),
                chain("proxy"),
                text(gap, "/payload/reason"),
            ));
        }
    }
    lines.push(match told.pointer("/last_checkpoint/sequence").and_then(Value::as_u64) {
        Some(sequence) => format!("last checkpoint: {sequence} of {}", text(told, "/last_checkpoint/time")),
        None => "last checkpoint: none".into(),
    });
    match told.pointer("/ingest/stages") {
        Some(stages) => {
            let kafka = stages.pointer("/kafka/events").map(|events| format!("{events} in Kafka, "));
            lines.push(format!(
                "on the way: {} events in rings, {} ({} bytes) in the spool, delivery {:.1} s behind, {}\
                 {} acknowledged events not in the store yet",
                number(stages, "/ring/events"),
                number(stages, "/spool/events"),
                number(stages, "/spool/bytes"),
                stages.pointer("/delivery/lag_seconds").and_then(Value::as_f64).unwrap_or(0.0),
                kafka.unwrap_or_default(),
                number(stages, "/store/events"),
            ));
        }
        None => lines.push("on the way: the ingest does not answer".into()),
    }
    lines
}

fn items<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_a_checkpoint_and_each_stage_are_told() {
        let gap = json!({ "timestamp": "T", "event_type": "audit.lost", "payload": { "missing": 4, "reason": "proxy_ended",
            "chain": { "proxy": "edge", "worker": 2 } } });
        let told = json!({
            "servers": [{ "namespace": "a", "server": "b", "last_event": "L", "missing": 4, "gaps": [gap],
                          "chains": [{ "events": 3 }, { "events": 5 }] }],
            "last_checkpoint": { "sequence": 9, "time": "C" },
            "ingest": { "stages": { "ring": { "events": 1 }, "spool": { "bytes": 20, "batches": 2, "events": 3 },
                                    "delivery": { "lag_seconds": 1.25 }, "kafka": { "events": 4 }, "store": { "events": 7 } } },
        });
        assert_eq!(
            lines(&told),
            [
                "a/b: 8 events of 2 chains, 4 missing, last L",
                "  T audit.lost: 4 missing from worker 2 of edge (proxy_ended)",
                "last checkpoint: 9 of C",
                "on the way: 1 events in rings, 3 (20 bytes) in the spool, delivery 1.2 s behind, 4 in Kafka, \
                 7 acknowledged events not in the store yet",
            ]
        );
        let silent = lines(&json!({ "servers": [], "last_checkpoint": null, "ingest": null }));
        assert_eq!(silent, ["last checkpoint: none", "on the way: the ingest does not answer"]);
    }
}
