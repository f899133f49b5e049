//! What holds whatever fails and whenever: everything acknowledged is read back, in order, and once beyond the cursor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use crate::faulty::{Fault, Faulty};
use crate::files::Files;
use crate::ledger::{Ledger, Segment};
use crate::reader::{Place, Record, read, save};
use crate::record::{self, FRAME, HEADER};
use crate::recovery::recover;
use crate::writer::{Bounds, Writer};

const FOLDER: &str = "/spool";
const SEGMENT_BYTES: u64 = 300;

#[derive(Clone, Debug)]
enum Action {
    /// Appends records of these sizes as one group, while these faults wait.
    Append(Vec<usize>, Vec<Option<Fault>>),
    /// Reads, and delivers what was read, while these faults wait.
    Deliver(u64, Vec<Option<Fault>>),
    /// The process is killed and started again, while these faults wait.
    Kill(Vec<Option<Fault>>),
    /// The machine loses power.
    LosePower(usize),
}

fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    let fault = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Fault::Io)),
        1 => (0_usize..500).prop_map(|room| Some(Fault::NoSpace(room))),
        2 => Just(Some(Fault::Sync)),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(fault, 1..8)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (prop::collection::vec(1_usize..200, 1..5), faults()).prop_map(|(sizes, f)| Action::Append(sizes, f)),
        2 => (1_u64..1000, faults()).prop_map(|(max, f)| Action::Deliver(max, f)),
        1 => faults().prop_map(Action::Kill),
        2 => any::<usize>().prop_map(Action::LosePower),
    ]
}

/// A log, and what must be true of it.
struct Run {
    disk: Faulty,
    ledger: Arc<Ledger>,
    writer: Writer,
    place: Place,
    /// Payloads by position.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// What the last start found; acknowledged as soon as anything is.
    shown: BTreeMap<u64, Vec<u8>>,
    /// Payloads that may be there, or not.
    attempted: Vec<Vec<u8>>,
    /// Up to where the cursor says for sure that everything is delivered.
    delivered: u64,
    count: u64,
}

impl Run {
    fn start(disk: &Faulty) -> Self {
        let (ledger, writer, place) = open(disk);
        let (acknowledged, shown, attempted) = Default::default();
        Self {
            disk: disk.clone(),
            ledger,
            writer,
            place,
            acknowledged,
            shown,
            attempted,
            delivered: 0,
            count: 0,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append(sizes, faults) => {
                self.disk.plan(faults);
                self.append(&sizes);
            }
            Action::Deliver(max, faults) => {
                let records = self.read(max);
                self.disk.plan(faults);
                if let Some(last) = records.last() {
                    self.place = Place::before(last.position + 1);
                    if save(&self.disk, &self.ledger, last.position).is_ok() {
                        self.delivered = last.position;
                    }
                }
            }
            Action::Kill(faults) => {
                self.disk.plan(faults);
                self.restart();
            }
            Action::LosePower(choice) => {
                self.disk.lose_power(choice);
                self.restart();
            }
        }
        self.disk.plan(Vec::new());
    }

    fn append(&mut self, sizes: &[usize]) {
        let mut group = Vec::new();
        for size in sizes {
            self.count += 1;
            let mut payload = self.count.to_le_bytes().to_vec();
            payload.resize(8 + size, 7);
            let position = self.writer.add(&payload).expect("there is room");
            group.push((position, payload));
        }
        match self.writer.commit() {
            Ok(()) => self.acknowledged.extend(group.into_iter().chain(std::mem::take(&mut self.shown))),
            Err(_) => self.attempted.extend(group.into_iter().map(|(_, payload)| payload)),
        }
    }

    fn read(&self, max: u64) -> Vec<Record> {
        let mut place = self.place;
        let mut records = Vec::new();
        while place.wanted <= *self.ledger.durable.borrow() && records.is_empty() {
            let chunk = read(&self.disk, &self.ledger, &mut place, max).unwrap();
            assert_eq!(chunk.lost, 0, "nothing is damaged but what was never acknowledged");
            records = chunk.records;
        }
        records
    }

    /// Opens the log again and compares.
    fn restart(&mut self) {
        (self.ledger, self.writer, self.place) = open(&self.disk);
        let first = self.place.wanted;
        assert!(first > self.delivered, "what the cursor covers is not given again");
        let mut found = BTreeMap::new();
        loop {
            let records = self.read(250);
            let Some(last) = records.last() else { break };
            self.place = Place::before(last.position + 1);
            for record in records {
                let next = first + u64::try_from(found.len()).unwrap();
                assert_eq!(record.position, next, "positions follow one another");
                found.insert(record.position, record.payload.to_vec());
            }
        }
        self.place = Place::before(first);
        for (position, payload) in self.acknowledged.range(first..) {
            assert_eq!(found.get(position), Some(payload), "acknowledged at {position} and lost");
        }
        for (position, payload) in &found {
            let is_known =
                self.acknowledged.get(position) == Some(payload) || self.attempted.contains(payload);
            assert!(is_known, "nobody appended what is at {position}");
        }
        self.shown = found;
        if self.writer.ensure_segment().is_ok() {
            self.acknowledged.append(&mut self.shown);
        }
    }
}

/// Opens the log; where it fails, once more without faults.
fn open(disk: &Faulty) -> (Arc<Ledger>, Writer, Place) {
    let recovered = recover(disk, Path::new(FOLDER));
    let recovered = recovered.or_else(|_| {
        disk.plan(Vec::new());
        recover(disk, Path::new(FOLDER))
    });
    let bounds = Bounds { all: u64::MAX, segment: SEGMENT_BYTES };
    let writer = Writer::new(Arc::new(disk.clone()), recovered.unwrap(), bounds);
    let ledger = Arc::clone(writer.ledger());
    let place = Place::before(*ledger.delivered.borrow() + 1);
    (ledger, writer, place)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_acknowledged_is_read_back_in_order_and_once(actions in prop::collection::vec(action(), 1..40)) {
        let mut run = Run::start(&Faulty::new());
        for action in actions {
            run.act(action);
        }
        run.restart();
    }
}

/// A log of one segment with three acknowledged records; and that segment.
fn three() -> (Faulty, PathBuf) {
    let disk = Faulty::new();
    let mut run = Run::start(&disk);
    run.append(&[50]);
    run.append(&[60]);
    run.append(&[70]);
    (disk, Path::new(FOLDER).join(Segment::name(1)))
}

fn payloads(disk: &Faulty) -> Vec<usize> {
    let mut run = Run::start(disk);
    let mut sizes = Vec::new();
    loop {
        let records = run.read(u64::MAX);
        let Some(last) = records.last() else { return sizes };
        run.place = Place::before(last.position + 1);
        sizes.extend(records.iter().map(|record| record.payload.len()));
    }
}

#[test]
fn a_tail_torn_at_any_byte_costs_the_last_record_alone() {
    let whole = three().0.length(&three().1).unwrap();
    let last = u64::try_from(FRAME + 8 + 70).unwrap();
    for cut in 1..=last {
        let (disk, path) = three();
        disk.damage(&path, |bytes| bytes.truncate(usize::try_from(whole - cut).unwrap()));
        assert_eq!(payloads(&disk), [58, 68], "cut {cut}");
        assert_eq!(payloads(&disk), [58, 68], "and stays so");
    }
}

#[test]
fn a_tail_with_any_changed_byte_costs_the_last_record_alone() {
    for changed in 1..=FRAME + 8 + 70 {
        let (disk, path) = three();
        disk.damage(&path, |bytes| {
            let index = bytes.len() - changed;
            bytes[index] ^= 0x10;
        });
        assert_eq!(payloads(&disk), [58, 68], "changed {changed}");
    }
}

#[test]
fn after_a_failed_fsync_the_segment_is_not_trusted_again() {
    let disk = Faulty::new();
    let mut run = Run::start(&disk);
    run.append(&[50]);
    disk.plan(vec![Some(Fault::Sync), None]);
    run.append(&[60]);
    run.append(&[70]);
    assert_eq!(run.acknowledged.len(), 2);
    disk.lose_power(0);
    run.restart();
    assert_eq!(payloads(&disk), [58, 78]);
}

#[test]
fn a_damaged_segment_costs_its_rest_and_is_counted() {
    let disk = Faulty::new();
    let mut run = Run::start(&disk);
    run.append(&[150, 20, 150]);
    run.append(&[30]);
    disk.damage(&Path::new(FOLDER).join(Segment::name(1)), |bytes| bytes[HEADER + FRAME + 158 + FRAME] ^= 1);
    let mut place = Place::before(1);
    let first = read(&disk, &run.ledger, &mut place, u64::MAX).unwrap();
    assert_eq!(first.records.len(), 1);
    let second = read(&disk, &run.ledger, &mut place, u64::MAX).unwrap();
    assert_eq!((second.records.len(), second.lost), (0, 2));
    let third = read(&disk, &run.ledger, &mut place, u64::MAX).unwrap();
    assert_eq!(third.records[0].position, 4);
}

#[test]
fn a_full_disk_does_not_keep_what_is_there_from_being_read() {
    let (disk, _) = three();
    disk.plan(vec![Some(Fault::NoSpace(0)); 4]);
    let (ledger, ..) = open(&disk);
    let chunk = read(&disk, &ledger, &mut Place::before(1), u64::MAX).unwrap();
    assert_eq!(chunk.records.len(), 3);
}

#[test]
fn a_segment_of_another_version_is_refused_and_left_alone() {
    let (disk, path) = three();
    disk.damage(&path, |bytes| bytes[7] = b'9');
    assert!(recover(&disk, Path::new(FOLDER)).is_err());
    assert!(!record::is_header(&disk.read(&path, 0, 64).unwrap(), 1));
}
