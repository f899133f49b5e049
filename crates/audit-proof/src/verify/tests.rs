use prost::Message;
use sallyport_audit_proto::chain::{genesis, hash};
use sallyport_audit_proto::v1::AuditEvent;

use super::*;
use crate::checkpoint::{Checkpoint, End, SealedHead};
use crate::key::{SecretKey, generate_pem};
use crate::lines::Covered;
use crate::report::Found;
use crate::sealer::{Sealed, Sealer};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// An event as a store has it.
#[derive(Clone, Debug)]
struct Row {
    chain: ChainId,
    seq: u64,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

/// A store with two chains of ten events each, sealed after five and after ten.
struct World {
    rows: Vec<Row>,
    heads: BTreeMap<ChainId, SealedHead>,
    checkpoints: Vec<Vec<u8>>,
    sealer: Sealer,
    key: PublicKey,
    now: u64,
}

fn id(worker: u32) -> ChainId {
    ChainId { proxy: "edge".into(), worker, epoch: 7 }
}

fn mk_event(seq: u64, prev_hash: [u8; 32], dropped_before: u64) -> Vec<u8> {
    let (prev_hash, time_unix_nanos) = (prev_hash.to_vec(), seq * SECOND);
    AuditEvent { seq, prev_hash, time_unix_nanos, dropped_before, ..AuditEvent::default() }.encode_to_vec()
}

impl World {
    fn empty() -> Self {
        let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
        let public = key.public();
        let sealer = Sealer::resume(key, None, vec![], 10 * DAY).unwrap();
        Self {
            rows: vec![],
            heads: BTreeMap::new(),
            checkpoints: vec![],
            sealer,
            key: public,
            now: 20 * SECOND,
        }
    }

    fn new() -> Self {
        let mut world = Self::empty();
        for _ in 0..2 {
            for worker in [1, 2] {
                (0..5).for_each(|_| world.append(worker, 0));
            }
            world.seal();
        }
        world
    }

    /// The next event of a chain, after so many that were dropped.
    fn append(&mut self, worker: u32, dropped: u64) {
        let chain = id(worker);
        let genesis = genesis(&chain.proxy, chain.worker, chain.epoch);
        let head = self.heads.entry(chain.clone()).or_insert(SealedHead {
            chain: chain.clone(),
            hash: genesis,
            ..SealedHead::default()
        });
        let seq = head.seq + dropped + 1;
        let bytes = mk_event(seq, head.hash, dropped);
        let hash = hash(&bytes);
        (head.seq, head.hash, head.count) = (seq, hash, head.count + 1);
        self.rows.push(Row { chain, seq, hash, bytes });
        self.rows.sort_by(|a, b| (&a.chain, a.seq).cmp(&(&b.chain, b.seq)));
    }

    fn seal(&mut self) {
        self.seal_and_retire(&[]);
    }

    fn seal_and_retire(&mut self, retired: &[ChainId]) -> Sealed {
        self.now += 60 * SECOND;
        let sealed = self.sealer.seal(self.now, self.heads.clone(), retired);
        self.checkpoints.push(sealed.bytes.clone());
        sealed
    }

    fn row(&mut self, worker: u32, seq: u64) -> &mut Row {
        self.rows.iter_mut().find(|row| row.chain == id(worker) && row.seq == seq).unwrap()
    }

    fn remove(&mut self, worker: u32, seqs: std::ops::RangeInclusive<u64>) {
        self.rows.retain(|row| row.chain != id(worker) || !seqs.contains(&row.seq));
    }

    fn verify(&self) -> Report {
        self.verify_part(Covers::default())
    }

    fn verify_part(&self, covers: Covers) -> Report {
        let parts = covers.by_chain();
        let mut verifier = Verifier::new(vec![self.key.clone()], covers);
        self.checkpoints.iter().for_each(|signed| verifier.checkpoint(signed));
        for row in &self.rows {
            let Row { chain, seq, hash, bytes } = row;
            let part = parts.as_ref().map(|parts| parts.get(chain));
            if part.is_none_or(|part| part.is_some_and(|(first, last)| (first..=last).contains(&seq))) {
                verifier.event(Event { chain, seq: *seq, hash, bytes, differs: None });
            }
        }
        verifier.finish()
    }
}

impl World {
    /// A verifier that has read all but the last `later` checkpoints, and then the events.
    fn walked(&self, later: usize) -> Verifier {
        let mut verifier = Verifier::new(vec![self.key.clone()], Covers::default());
        let first = self.checkpoints.len() - later;
        self.checkpoints.iter().take(first).for_each(|signed| verifier.checkpoint(signed));
        for Row { chain, seq, hash, bytes } in &self.rows {
            verifier.event(Event { chain, seq: *seq, hash, bytes, differs: None });
        }
        verifier
    }

    /// Retention removes what a chain has up to `floor`, of which `gone` were not read; it is sealed afterwards.
    fn prune(&mut self, worker: u32, floor: u64, gone: std::ops::RangeInclusive<u64>) {
        self.remove(worker, gone);
        let head = self.heads.get_mut(&id(worker)).unwrap();
        (head.floor, head.removed) = (floor, floor);
        self.seal();
    }
}

fn texts<T>(found: &Found<T>, text: impl Fn(&T) -> String) -> Vec<String> {
    found.listed.iter().map(text).collect()
}

fn alterations(report: &Report) -> Vec<u64> {
    report.alterations.listed.iter().map(|altered| altered.seq).collect()
}

fn truncations(report: &Report) -> Vec<(Place, u64, u64, u64)> {
    report.truncations.listed.iter().map(|cut| (cut.place, cut.from, cut.to, cut.missing)).collect()
}

#[test]
fn what_was_recorded_is_intact() {
    let report = World::new().verify();
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.chains, report.checkpoints, report.not_sealed), (20, 2, 2, 0));
    assert_eq!(report.last_checkpoint.unwrap().sequence, 2);
}

#[test]
fn a_changed_field_is_found_with_and_without_its_hash() {
    let mut world = World::new();
    let event = AuditEvent { allowed: true, ..AuditEvent::decode(world.row(1, 3).bytes.as_slice()).unwrap() };
    world.row(1, 3).bytes = event.encode_to_vec();
    assert_eq!(alterations(&world.verify()), [3, 4]);
    world.row(1, 3).hash = hash(&event.encode_to_vec());
    assert_eq!(alterations(&world.verify()), [4], "the event after it does not follow");
}

#[test]
fn a_chain_that_was_made_anew_from_an_event_on_is_found_by_the_checkpoint() {
    let mut world = World::new();
    let mut before = world.row(1, 7).hash;
    for seq in 8..=10 {
        let row = world.row(1, seq);
        let event = AuditEvent {
            allowed: true,
            prev_hash: before.to_vec(),
            ..AuditEvent::decode(row.bytes.as_slice()).unwrap()
        };
        row.bytes = event.encode_to_vec();
        row.hash = hash(&row.bytes);
        before = row.hash;
    }
    let report = world.verify();
    assert_eq!(alterations(&report), [10]);
    assert!(report.alterations.listed[0].what.contains("checkpoint 2"));
}

#[test]
fn deleted_rows_are_found_wherever_they_stood() {
    for (seqs, expected) in [
        (4..=4, (Place::Middle, 4, 4, 1)),
        // Counted by two checkpoints.
        (4..=7, (Place::Middle, 4, 5, 2)),
        (1..=2, (Place::Start, 1, 2, 2)),
        (9..=10, (Place::Tail, 9, 10, 2)),
        (3..=10, (Place::Tail, 3, 10, 8)),
        (1..=10, (Place::Whole, 1, 10, 10)),
    ] {
        let mut world = World::new();
        world.remove(2, seqs.clone());
        let report = world.verify();
        assert!(!report.is_intact());
        let found = truncations(&report);
        let missing: u64 = found.iter().map(|cut| cut.3).sum();
        assert_eq!(missing, seqs.clone().count() as u64, "{seqs:?}: {found:?}");
        assert_eq!(found.first(), Some(&expected), "{seqs:?}: {found:?}");
        assert_eq!(found.len(), if seqs == (4..=7) { 2 } else { 1 }, "{seqs:?}: {found:?}");
    }
}

#[test]
fn a_reordered_pair_is_found() {
    let mut world = World::new();
    let (third, fourth) = (world.row(1, 3).clone(), world.row(1, 4).clone());
    *world.row(1, 3) = Row { seq: 3, ..fourth };
    world
        .rows
        .iter_mut()
        .filter(|row| row.chain == id(1))
        .nth(3)
        .unwrap()
        .clone_from(&Row { seq: 4, ..third });
    let report = world.verify();
    assert!(alterations(&report).contains(&3) && alterations(&report).contains(&4), "{report:#?}");
}

#[test]
fn a_forged_event_is_found() {
    // At the end of a chain, well linked.
    let mut world = World::new();
    world.append(1, 0);
    world.heads.get_mut(&id(1)).unwrap().seq = 10;
    assert_eq!(world.verify().not_sealed, 1, "not proven while it is new");
    world.now += DAY;
    world.heads.get_mut(&id(1)).unwrap().seq = 10;
    world.heads.get_mut(&id(1)).unwrap().hash = world.row(1, 10).hash;
    world.heads.get_mut(&id(1)).unwrap().count = 10;
    world.append(2, 0);
    world.seal();
    assert_eq!(alterations(&world.verify()), [11], "older than a checkpoint that does not know it");
    // In the place of one that never came.
    let mut world = World::empty();
    world.append(1, 0);
    world.append(1, 1);
    world.seal();
    assert_eq!(world.verify().gaps.listed[0].reason, "ring_full");
    let bytes = mk_event(2, world.row(1, 1).hash, 0);
    world.rows.insert(1, Row { chain: id(1), seq: 2, hash: hash(&bytes), bytes });
    assert!(!world.verify().is_intact());
    // As a chain of its own.
    let mut world = World::new();
    let bytes = mk_event(1, genesis("edge", 3, 7), 0);
    world.rows.push(Row { chain: id(3), seq: 1, hash: hash(&bytes), bytes });
    world.now += DAY;
    world.append(1, 0);
    world.seal();
    assert_eq!(alterations(&world.verify()), [1]);
}

#[test]
fn checkpoints_that_were_removed_exchanged_or_altered_are_found() {
    let world = || {
        let mut world = World::new();
        for _ in 0..3 {
            world.append(1, 0);
            world.seal();
        }
        world
    };
    let faults = |world: &World| {
        let report = world.verify();
        assert!(!report.is_intact());
        texts(&report.checkpoint_faults, |fault| format!("{} {}", fault.sequence, fault.what))
    };
    let mut removed = world();
    removed.checkpoints.remove(2);
    assert_eq!(faults(&removed), ["4 checkpoints 3 to 3 are missing before it"]);
    let mut first = world();
    first.checkpoints.remove(0);
    assert!(faults(&first)[0].contains("does not hold all heads"));
    let mut swapped = world();
    swapped.checkpoints.swap(2, 3);
    assert!(faults(&swapped).len() >= 2);
    let mut altered = world();
    *altered.checkpoints[2].get_mut(20).unwrap() ^= 1;
    assert!(faults(&altered)[0].starts_with("3 does not bear its signature"), "{:?}", faults(&altered));
    let mut foreign = world();
    foreign.checkpoints[1] = World::new().checkpoints.remove(1);
    assert!(faults(&foreign)[0].contains("a key that was not given"));
    // By the key's owner: signed well, and still not the one that the next one names.
    let mut exchanged = world();
    let mut other = Checkpoint::decode(&exchanged.checkpoints[3]).unwrap().0;
    other.nanos += 1;
    let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
    exchanged.checkpoints[3] = other.sign(&key).0;
    let mut verifier = Verifier::new(vec![exchanged.key.clone(), key.public()], Covers::default());
    exchanged.checkpoints.iter().for_each(|signed| verifier.checkpoint(signed));
    let report = verifier.finish();
    assert!(report.checkpoint_faults.listed[0].what.contains("exchanged"), "{report:#?}");
}

#[test]
fn a_record_that_was_set_back_whole_is_found_by_a_checkpoint_kept_elsewhere() {
    let mut world = World::new();
    let kept = world.checkpoints[1].clone();
    world.checkpoints.truncate(1);
    world.remove(1, 6..=10);
    world.remove(2, 6..=10);
    assert!(world.verify().is_intact(), "nothing inside tells");
    let mut verifier = Verifier::new(vec![world.key.clone()], Covers::default());
    verifier.expect(&kept).unwrap();
    verifier.checkpoint(&world.checkpoints[0]);
    let report = verifier.finish();
    assert_eq!(report.checkpoint_faults.listed[0].what, "was kept elsewhere and is missing here");
    assert!(verifier_of(&World::new().checkpoints[0], &world.key).is_err(), "another key's");
}

fn verifier_of(kept: &[u8], key: &PublicKey) -> Result<(), Malformed> {
    Verifier::new(vec![key.clone()], Covers::default()).expect(kept)
}

#[test]
fn what_retention_removed_is_no_truncation_as_far_as_a_checkpoint_says_so() {
    let mut world = World::new();
    world.remove(1, 1..=7);
    assert!(!world.verify().is_intact(), "nobody says so yet");
    let head = world.heads.get_mut(&id(1)).unwrap();
    (head.floor, head.removed) = (7, 7);
    world.seal();
    let report = world.verify();
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!(report.removed, 7);
    world.remove(1, 8..=8);
    assert_eq!(truncations(&world.verify()), [(Place::Middle, 8, 8, 1)], "one more than it says");
    let mut all = World::new();
    all.remove(1, 1..=10);
    let head = all.heads.get_mut(&id(1)).unwrap();
    (head.floor, head.removed) = (10, 10);
    all.seal();
    assert!(all.verify().is_intact(), "{:#?}", all.verify());
    let retired = all.seal_and_retire(&[id(1)]);
    assert_eq!(retired.retired, [id(1)]);
    all.heads.remove(&id(1));
    all.append(2, 0);
    all.seal();
    assert!(all.verify().is_intact(), "{:#?}", all.verify());
}

#[test]
fn what_is_older_than_a_checkpoint_keeps_events_for_may_be_gone_and_nothing_younger() {
    let mut world = World::new();
    world.remove(1, 1..=7);
    world.remove(2, 1..=10);
    world.now += 11 * DAY;
    world.append(1, 0);
    world.append(1, 0);
    world.seal();
    let report = world.verify();
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!(report.removed, 17);
    world.remove(1, 11..=11);
    assert_eq!(truncations(&world.verify()), [(Place::Middle, 11, 11, 1)]);
}

#[test]
fn what_retention_removes_while_events_are_read_is_told_as_such() {
    // Before the first of the chain was read, or between two pages of it.
    for gone in [1..=3, 1..=5, 1..=7, 1..=10, 2..=3, 3..=7, 5..=9, 4..=10] {
        let mut world = World::new();
        let (floor, count) = (*gone.end(), gone.clone().count() as u64);
        world.prune(1, floor, gone.clone());
        let mut verifier = world.walked(1);
        assert!(verifier.is_in_doubt(), "{gone:?}");
        assert_eq!(verifier.finish().truncations.listed.iter().map(|cut| cut.missing).sum::<u64>(), count);
        let mut verifier = world.walked(1);
        verifier.checkpoint(&world.checkpoints[2]);
        assert!(!verifier.is_in_doubt(), "{gone:?}");
        let report = verifier.finish();
        assert!(report.is_intact(), "{gone:?}: {report:#?}");
        assert_eq!((report.removed, report.last_checkpoint.unwrap().sequence), (count, 2), "{gone:?}");
        assert!(report.removed_before_nanos.is_some());
    }
}

#[test]
fn what_retention_removes_before_it_was_ever_sealed_is_told_as_such() {
    let mut world = World::new();
    (0..3).for_each(|_| world.append(1, 0));
    world.prune(1, 12, 1..=12);
    let mut verifier = world.walked(1);
    assert!(verifier.is_in_doubt());
    assert!(!world.walked(1).finish().is_intact());
    verifier.checkpoint(&world.checkpoints[2]);
    let report = verifier.finish();
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!(report.removed, 12);
}

#[test]
fn what_retention_did_not_remove_is_missed_although_it_removed_something_meanwhile() {
    for (deleted, expected) in [
        (9..=10, (Place::Tail, 9, 10, 2)),
        (8..=10, (Place::Tail, 8, 10, 3)),
        (8..=8, (Place::Middle, 8, 8, 1)),
        (9..=9, (Place::Middle, 9, 9, 1)),
    ] {
        for gone in [1..=7, 3..=7] {
            let mut world = World::new();
            world.remove(1, deleted.clone());
            world.prune(1, 7, gone.clone());
            let mut verifier = world.walked(1);
            verifier.checkpoint(&world.checkpoints[2]);
            assert!(verifier.is_in_doubt());
            assert_eq!(truncations(&verifier.finish()), [expected], "{deleted:?} {gone:?}");
        }
    }
    // Of another chain, and all of it.
    let mut world = World::new();
    world.remove(2, 1..=10);
    world.prune(1, 7, 1..=7);
    let mut verifier = world.walked(1);
    verifier.checkpoint(&world.checkpoints[2]);
    assert_eq!(truncations(&verifier.finish()), [(Place::Whole, 1, 10, 10)]);
}

#[test]
fn a_forged_checkpoint_explains_nothing() {
    let mut world = World::new();
    world.remove(1, 1..=7);
    let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
    let mut forged = Checkpoint::decode(&world.checkpoints[1]).unwrap().0;
    (forged.sequence, forged.heads[0].floor) = (3, 7);
    let mut verifier = world.walked(0);
    verifier.checkpoint(&forged.sign(&key).0);
    let report = verifier.finish();
    assert_eq!((report.truncations.total, report.checkpoint_faults.total), (2, 1), "{report:#?}");
}

#[test]
fn a_chain_that_is_retired_too_early_is_a_fault() {
    let mut world = World::new();
    world.seal_and_retire(&[id(1)]);
    world.remove(1, 1..=10);
    let report = world.verify();
    assert!(report.checkpoint_faults.listed[0].what.contains("before all of it was removed"), "{report:#?}");
}

#[test]
fn gaps_say_why() {
    let mut world = World::new();
    // Three that the proxy dropped; two that never arrived; a proxy that died with four more.
    world.append(1, 3);
    let chain = id(2);
    world.append(2, 0);
    world.append(2, 0);
    world.append(2, 0);
    world.remove(2, 11..=12);
    world.heads.get_mut(&chain).unwrap().count -= 2;
    let head = world.heads.get_mut(&chain).unwrap();
    (head.announced, head.end) = (17, End::CutOff);
    world.seal();
    let report = world.verify();
    let gaps = texts(&report.gaps, |gap| {
        format!("{} {}-{} {} {}", gap.chain.worker, gap.from, gap.to, gap.missing, gap.reason)
    });
    assert_eq!(gaps, ["1 11-13 3 ring_full", "2 11-12 2 never_arrived", "2 14-17 4 proxy_ended"]);
    assert_eq!((report.missing, report.unexplained), (9, 2));
    assert_eq!(report.truncations.total, 0);
    assert!(!report.is_intact(), "two are not explained");
}

#[test]
fn a_part_is_verified_and_its_missing_tail_found() {
    let mut world = World::new();
    let covered = |first, last| vec![Covered { chain: id(1), first, last }];
    let part = |world: &World, spans| {
        let checkpoints = world.checkpoints.iter().map(Vec::as_slice);
        let covers = Covers { server: Some("payments".into()), ..Covers::default() };
        world.verify_part(covers.with_parts(spans, checkpoints, None, None))
    };
    let report = part(&world, covered(7, 8));
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.chains), (6, 1), "from where it was first sealed to its end");
    world.remove(1, 9..=10);
    assert_eq!(truncations(&part(&world, covered(7, 8))), [(Place::Tail, 9, 10, 2)]);
}

#[test]
fn old_checkpoints_are_given_up_and_the_rest_still_proves() {
    let mut world = World::empty();
    let mut first = 1;
    for round in 0..200 {
        world.append(round % 3, 0);
        world.now += 3600 * SECOND * 4;
        world.seal();
        first = Checkpoint::decode(world.checkpoints.last().unwrap()).unwrap().0.first;
    }
    assert_eq!(first, 121, "the newest full one that is older than ten days");
    let kept = world.checkpoints.split_off(120);
    world.checkpoints = kept;
    let report = world.verify();
    assert!(report.is_intact(), "{report:#?}");
    world.checkpoints.drain(..60);
    assert!(world.verify().checkpoint_faults.listed[0].what.contains("121 to 180 are missing"));
}

#[test]
fn a_sealer_goes_on_where_it_was_and_says_nothing_twice() {
    let mut world = World::new();
    assert!(!world.sealer.is_due(&world.heads));
    world.append(1, 0);
    assert!(world.sealer.is_due(&world.heads));
    let pem = generate_pem().unwrap();
    let key = || SecretKey::from_pem(pem.as_bytes()).unwrap();
    let mut sealer = Sealer::resume(key(), None, vec![], DAY).unwrap();
    let one = sealer.seal(1, world.heads.clone(), &[]);
    let mut sealer = Sealer::resume(key(), Some(&one.bytes), sealer.full().to_vec(), DAY).unwrap();
    let two = sealer.seal(2, world.heads.clone(), &[]);
    let mut verifier = Verifier::new(vec![key().public()], Covers::default());
    verifier.checkpoint(&one.bytes);
    verifier.checkpoint(&two.bytes);
    assert_eq!(verifier.finish().checkpoint_faults.total, 0);
    assert!(Sealer::resume(key(), Some(b"something"), vec![], DAY).is_err());
}
