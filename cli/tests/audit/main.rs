//! The record's proof by the program itself: stores and exports, exit codes and reports.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod record;
mod rewrite;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::data_type::ByteArray;
use record::Record;
use rewrite::{Columns, Values, rewrite};
use sallyport_event_store::EventStore;
use serde_json::Value;

/// What a report found, by kind.
fn found(report: &Value) -> Vec<&'static str> {
    let kinds = ["truncations", "alterations", "checkpoint_faults"];
    let mut found: Vec<_> =
        kinds.into_iter().filter(|kind| report[kind]["total"].as_u64() != Some(0)).collect();
    if report["export_faults"].as_array().is_none_or(|faults| !faults.is_empty()) {
        found.push("export_faults");
    }
    found
}

#[tokio::test]
async fn a_table_and_lines_are_verified_alike() {
    let record = Record::with_events(40).await.reader();
    let (early, late) = ("2027-01-15T08:00:00.300Z", "2027-01-15T08:00:01.750Z");
    for (selection, is_part) in [
        (&[][..], false),
        (&["--server", "mcp-servers/payments"], true),
        (&["--since", early], true),
        (&["--until", late], true),
        (&["--since", early, "--until", late], true),
    ] {
        let lines = record.export("export.jsonl", selection);
        let table = record.export("export.parquet", selection);
        let (code, report) = record.verify(&lines);
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(report["gaps"]["listed"][0]["reason"], "ring_full", "{report:#}");
        assert_eq!(report["events"].as_u64() < Some(80), is_part, "{selection:?}");
        assert_eq!(record.verify(&table), (0, report.clone()), "{selection:?}");
        let mut arguments = vec!["--store", record.database().to_str().unwrap().to_string().leak()];
        arguments.extend(selection);
        assert_eq!(record.verify_with(&arguments), (0, report), "the store itself, {selection:?}");
    }
    let named = record.export("export.something", &["--format", "parquet"]);
    assert!(std::fs::read(&named).unwrap().starts_with(b"PAR1"));
    assert_eq!(record.verify(&named).1["events"], 80);
    let witness = named.to_str().unwrap();
    let (code, report) =
        record.verify_with(&["--store", record.database().to_str().unwrap(), "--witness", witness]);
    assert_eq!(code, 0, "{report:#}");
}

#[tokio::test]
async fn a_table_of_several_groups_is_read_to_its_end() {
    let record = Record::with_events(5200).await.reader();
    let (code, report) = record.verify(&record.export("export.parquet", &[]));
    assert_eq!((code, &report["events"]), (0, &Value::from(10_400)), "{report:#}");
}

/// What is done to a table, and what the report must say of it.
type Case = (&'static str, &'static [&'static str], fn(&mut Columns));

/// Rows: two checkpoints, then 80 events.
#[tokio::test]
async fn whatever_is_changed_in_a_table_is_found() {
    let record = Record::with_events(40).await.reader();
    let table = record.export("export.parquet", &[]);
    let cases: [Case; 14] = [
        ("a byte of an event", &["alterations"], |table| flip(table, "bytes", 9, 50)),
        ("a byte of a hash", &["alterations"], |table| flip(table, "hash", 9, 3)),
        ("a decision", &["alterations"], |table| table.bytes("decision")[9] = Some("deny".into())),
        ("a tool that nobody called", &["alterations"], |table| table.bytes("tool_name")[9] = None),
        ("a status", &["alterations"], |table| {
            let Values::Small(values) = table.column("status") else { panic!() };
            values[9] = Some(403);
        }),
        ("a time", &["alterations"], |table| {
            let Values::Large(values) = table.column("time") else { panic!() };
            values[9] = values[9].map(|time| time + 1);
        }),
        ("a row in the middle", &["truncations", "export_faults"], |table| table.remove(9)),
        ("the last row", &["truncations", "export_faults"], |table| table.remove(81)),
        ("a reordered pair", &["alterations"], |table| table.swap(9, 10)),
        ("swapped checkpoints", &["checkpoint_faults"], |table| table.swap(0, 1)),
        ("another checkpoint's bytes", &["checkpoint_faults", "export_faults"], |table| {
            table.bytes("bytes").swap(0, 1);
        }),
        ("a byte of a checkpoint", &["checkpoint_faults", "export_faults"], |table| {
            flip(table, "bytes", 1, 60);
        }),
        ("a checkpoint less", &["checkpoint_faults", "export_faults"], |table| table.remove(0)),
        ("a checkpoint's number", &["export_faults"], |table| {
            let Values::Large(values) = table.column("seq") else { panic!() };
            values[1] = Some(9);
        }),
    ];
    for (what, expected, edit) in cases {
        let changed = record.path("changed.parquet");
        rewrite(&table, &changed, edit);
        let (code, report) = record.verify(&changed);
        assert_eq!(code, 1, "{what}: {report:#}");
        let found = found(&report);
        assert!(expected.iter().all(|kind| found.contains(kind)), "{what}: {found:?} {report:#}");
    }
    let unchanged = record.path("unchanged.parquet");
    rewrite(&table, &unchanged, |_| {});
    assert_eq!(record.verify(&unchanged).0, 0, "written again by itself it holds");
    assert_eq!(record.verify_with(&["--chains-only", unchanged.to_str().unwrap()]).0, 0);
}

#[tokio::test]
async fn a_table_that_cannot_be_read_is_told_apart_from_one_that_does_not_hold() {
    let record = Record::with_events(4).await.reader();
    let table = record.export("export.parquet", &[]);
    let whole = std::fs::read(&table).unwrap();
    let cut: PathBuf = record.path("cut.parquet");
    std::fs::write(&cut, &whole[..whole.len() - 9]).unwrap();
    let (code, told) = record.verify(&cut);
    assert_eq!(code, 2, "{told}");
    assert!(told.as_str().unwrap().contains("cut off"), "{told}");
    let (code, told) = record.verify(&record.path("nothing.parquet"));
    assert_eq!(code, 2, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_retention_shortens_while_it_is_read_is_whole() {
    let mut record = Record::new(2 << 20);
    let (reader, is_read) = (record.reader(), Arc::new(AtomicBool::new(false)));
    record.append(1, 100, 0).await;
    record.seal().await;
    let writing = tokio::spawn({
        let is_read = Arc::clone(&is_read);
        async move {
            for round in 0_u32.. {
                if is_read.load(Ordering::Relaxed) {
                    break;
                }
                record.append(round % 3, 150, 0).await;
                // What was removed is sealed a little later.
                if round % 4 == 0 {
                    record.seal().await;
                }
            }
            record.seal().await;
            record.store.stats().await.unwrap().pruned
        }
    });
    let reports = tokio::task::spawn_blocking(move || {
        let database = reader.database();
        let database = database.to_str().unwrap();
        let mut reports = Vec::new();
        for _ in 0..8 {
            reports.push(reader.verify_with(&["--store", database]));
            reports.push(reader.verify(&reader.export("export.jsonl", &[])));
            reports.push(reader.verify(&reader.export("export.parquet", &[])));
        }
        reports
    });
    let reports = reports.await.unwrap();
    is_read.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0, "retention removed nothing");
    for (code, report) in &reports {
        assert_eq!(*code, 0, "{report:#}");
    }
    assert!(reports.iter().any(|(_, report)| report["removed"].as_u64() > Some(0)));
}

#[tokio::test]
async fn what_an_export_covers_is_no_way_to_hide_a_tail() {
    let record = Record::with_events(40).await.reader();
    let lines = record.export("export.jsonl", &["--since", "2027-01-15T08:00:00.300Z"]);
    let text = std::fs::read_to_string(&lines).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let mut begin: Value = serde_json::from_str(first).unwrap();
    // The last five events of the second chain, and the word that they are covered.
    let kept: Vec<_> = rest
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["worker"] != 2 || line["seq"].as_u64() < Some(39))
        .map(|mut line| {
            if line["type"] == "end" {
                line["events"] = (line["events"].as_u64().unwrap() - 5).into();
            }
            line.to_string()
        })
        .collect();
    let verify = |begin: &Value| {
        let path = record.path("less.jsonl");
        std::fs::write(&path, format!("{begin}\n{}\n", kept.join("\n"))).unwrap();
        record.verify(&path)
    };
    let (code, report) = verify(&begin);
    assert_eq!((code, found(&report)), (1, vec!["truncations"]), "{report:#}");
    for part in begin["covers"]["parts"].as_array_mut().unwrap() {
        part["last"] = 38.into();
    }
    let (code, report) = verify(&begin);
    assert_eq!((code, found(&report)), (1, vec!["truncations"]), "{report:#}");
    begin["covers"].as_object_mut().unwrap().remove("since");
    let (code, report) = verify(&begin);
    assert_eq!(code, 1, "{report:#}");
    assert!(found(&report).contains(&"export_faults"), "{report:#}");
}

fn flip(table: &mut Columns, column: &str, row: usize, byte: usize) {
    let value = &mut table.bytes(column)[row];
    let mut bytes = value.as_ref().unwrap().data().to_vec();
    bytes[byte] ^= 1;
    *value = Some(ByteArray::from(bytes));
}
