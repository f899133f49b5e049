//! The cost of a call: flat in what the filter holds, and no higher than it was.

use sallyport_filter_host::fuel::{Sums, measure};
use sallyport_filter_host::{Count, Filter};

/// Instructions that an allowed `tools/call` of 300 bytes may cost, all phases together: what it costs today and 15 %.
/// `make bench-fuel` shows by phase and function what became of it. Lower it when the figure falls.
const CEILING: u64 = 58_500;

#[test]
fn a_call_costs_the_same_with_ten_sessions_and_with_ten_thousand_and_stays_below_its_ceiling() {
    let filter = Filter::built(Count::Callbacks).unwrap();
    let few = measure(&filter, 10, 1).unwrap();
    let many = measure(&filter, 10_000, 1_000).unwrap();
    let cost = Sums::per_exchange;
    assert!(
        cost(&many) * 100 <= cost(&few) * 105,
        "{} with 10 sessions, {} with 10,000",
        cost(&few),
        cost(&many)
    );
    assert!(cost(&many) <= CEILING, "{} instructions, at most {CEILING} wanted", cost(&many));
    // A revocation is one change, whatever is held beside it.
    assert!(many.change.fuel * 100 <= few.change.fuel * 115, "{:?} {:?}", few.change, many.change);
}
