//! What is missing, before it is known what retention removed while the events were read.

use crate::checkpoint::ChainId;
use crate::report::{Gap, Place, Report, Truncation};

/// Missing events that nothing explains so far.
#[derive(Debug)]
pub(super) enum Doubt {
    /// A checkpoint counted them.
    Counted {
        chain: ChainId,
        place: Place,
        /// Where they can have stood: first and last sequences, ascending.
        holes: Vec<(u64, u64)>,
        missing: u64,
        /// The checkpoint's number and time.
        sealed: (u64, u64),
    },
    /// No checkpoint tells of them.
    Gap(Gap),
}

impl Doubt {
    pub(super) fn counted(
        chain: ChainId,
        place: Place,
        holes: Vec<(u64, u64)>,
        missing: u64,
        sealed: (u64, u64),
    ) -> Self {
        Self::Counted { chain, place, holes, missing, sealed }
    }

    /// A hole between events that no checkpoint is about: told at once where the proxy announced it.
    pub(super) fn of_gap(gap: Gap, report: &mut Report, doubts: &mut Vec<Self>) {
        if gap.reason == "ring_full" { report.gap(gap) } else { doubts.push(Self::Gap(gap)) }
    }

    pub(super) fn chain(&self) -> &ChainId {
        match self {
            Self::Counted { chain, .. } => chain,
            Self::Gap(gap) => &gap.chain,
        }
    }

    /// Whether everything is explained where retention removed events up to `floor`, and what arrived by `expired`.
    pub(super) fn is_explained(&self, (floor, expired): (u64, u64)) -> bool {
        match self {
            Self::Counted { holes, sealed, .. } => {
                sealed.1 < expired || holes.iter().all(|(_, to)| *to <= floor)
            }
            Self::Gap(gap) => gap.to <= floor,
        }
    }

    /// Tells of it, now that retention is known to have removed events up to `floor`, and what arrived by `expired`.
    pub(super) fn settle(self, (floor, expired): (u64, u64), report: &mut Report) {
        match self {
            Self::Counted { missing, sealed: (_, nanos), .. } if nanos < expired => {
                report.removed(missing, nanos);
            }
            Self::Counted { chain, place, holes, missing, sealed: (checkpoint, nanos) } => {
                // What is left of it then begins later.
                let place = match place {
                    Place::Whole if holes.iter().any(|(from, _)| *from <= floor) => Place::Tail,
                    Place::Start if holes.iter().any(|(from, _)| *from <= floor) => Place::Middle,
                    place => place,
                };
                let above = |(from, to): &(u64, u64)| (*to > floor).then(|| ((*from).max(floor + 1), *to));
                let holes: Vec<_> = holes.iter().filter_map(above).collect();
                let room = holes.iter().fold(0_u64, |sum, (from, to)| sum.saturating_add(to - from + 1));
                let left = missing.min(room);
                report.removed(missing - left, nanos);
                if left > 0 {
                    let from = holes.first().map_or(0, |(from, _)| *from);
                    let to = holes.last().map_or(0, |(_, to)| *to);
                    report.truncations.push(Truncation { chain, place, from, to, missing: left, checkpoint });
                }
            }
            Self::Gap(gap) => {
                let from = gap.from.max(floor.saturating_add(1));
                let left = gap.to.saturating_add(1).saturating_sub(from);
                report.removed(gap.missing - left, gap.before_nanos.unwrap_or(0));
                if left > 0 {
                    report.gap(Gap { from, missing: left, ..gap });
                }
            }
        }
    }
}
