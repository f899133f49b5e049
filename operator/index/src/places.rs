//! Who claims which place, and who has it.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_policy::ObjectId;

/// Where a server is reached: a host, if it matters, and a path.
pub(crate) type Place = (Option<String>, String);

/// Of those that claim one place the oldest has it, and among equals the first by name; the age is in seconds since 1970,
/// where it is known. Whoever comes later, by whatever name, takes nothing from those who are there.
pub(crate) type Claim = (i64, ObjectId);

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Places {
    claims: BTreeMap<Place, BTreeSet<Claim>>,
}

impl Places {
    /// Who has a place.
    pub(crate) fn holder(&self, place: &Place) -> Option<&ObjectId> {
        self.claims.get(place)?.first().map(|(_, id)| id)
    }

    /// Who claims a place.
    pub(crate) fn claimants(&self, place: &Place) -> impl Iterator<Item = &ObjectId> {
        self.claims.get(place).into_iter().flatten().map(|(_, id)| id)
    }

    pub(crate) fn claim(&mut self, place: Place, claim: Claim) {
        self.claims.entry(place).or_default().insert(claim);
    }

    pub(crate) fn give_up(&mut self, place: &Place, claim: &Claim) {
        if let Some(claims) = self.claims.get_mut(place) {
            claims.remove(claim);
            if claims.is_empty() {
                self.claims.remove(place);
            }
        }
    }
}
