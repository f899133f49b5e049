use super::*;

fn candidate(identity: &str) -> Election {
    Election { identity: identity.into(), seen: None }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn taken(step: Step) -> LeaseSpec {
    match step {
        Step::Take(spec) => spec,
        Step::Wait => panic!("must take"),
    }
}

#[test]
fn a_free_lease_is_taken_and_a_held_one_only_when_it_stood_still_for_its_duration() {
    let (mut one, mut other) = (candidate("one"), candidate("other"));
    let now = Instant::now();
    let held = taken(one.decide(&LeaseSpec::default(), now, time(0)));
    assert_eq!(held.holder_identity.as_deref(), Some("one"));
    assert_eq!(other.decide(&held, now, time(0)), Step::Wait);
    let almost = now + LEASE_DURATION - Duration::from_millis(1);
    assert_eq!(other.decide(&held, almost, time(14)), Step::Wait);
    let renewed = taken(one.decide(&held, almost, time(14)));
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(1), &held.acquire_time));
    assert_eq!(other.decide(&renewed, now + LEASE_DURATION, time(15)), Step::Wait, "it was renewed");
    let late = now + LEASE_DURATION * 2;
    let taken_over = taken(other.decide(&renewed, late, time(30)));
    assert_eq!(
        (taken_over.holder_identity.as_deref(), taken_over.lease_transitions),
        (Some("other"), Some(2))
    );
}

#[test]
fn what_clocks_say_does_not_matter() {
    let (mut one, mut other) = (candidate("one"), candidate("other"));
    let now = Instant::now();
    // An hour behind, and an hour ahead.
    let held = taken(one.decide(&LeaseSpec::default(), now, time(-3600)));
    assert_eq!(other.decide(&held, now, time(3600)), Step::Wait);
    assert_eq!(other.decide(&held, now + LEASE_DURATION / 2, time(3608)), Step::Wait);
}

#[test]
fn a_lease_that_was_given_up_is_free() {
    let mut other = candidate("other");
    let free = LeaseSpec { holder_identity: Some(String::new()), ..LeaseSpec::default() };
    assert!(matches!(other.decide(&free, Instant::now(), time(0)), Step::Take(_)));
}

#[test]
fn a_holder_gives_up_before_another_takes_over() {
    assert!(RENEW_DEADLINE + REQUEST.min(RENEW_DEADLINE) <= LEASE_DURATION);
    assert!(RETRY_PERIOD * 2 < RENEW_DEADLINE);
}
