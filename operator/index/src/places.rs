//! Who claims which place, and who stands in whose way.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_policy::ObjectId;
use sallyport_resolve::Place;

/// Of claims that exclude each other the oldest counts, and among equals the first by name; the age is in seconds since 1970,
/// where it is known. Whoever comes later, by whatever name, takes nothing from those who are there.
pub(crate) type Claim = (i64, ObjectId);

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By path, then by host.
    claims: BTreeMap<String, BTreeMap<Option<String>, BTreeSet<Claim>>>,
}

impl Places {
    /// Claims of others that exclude one of `id` on this place. Costs nothing for servers on other paths, nor for those on
    /// other hosts where the place has one.
    pub(crate) fn rivals(&self, place: &Place, id: &ObjectId) -> impl Iterator<Item = &Claim> {
        let at = self.claims.get(&place.path);
        let hosts: Vec<(&Option<String>, &BTreeSet<Claim>)> = match (&place.host, at) {
            (_, None) => Vec::new(),
            (Some(_), Some(at)) => {
                [&place.host, &None].into_iter().filter_map(|host| at.get_key_value(host)).collect()
            }
            (None, Some(at)) => at.iter().collect(),
        };
        hosts.into_iter().flat_map(move |(host, claims)| {
            let there = Place { host: host.clone(), path: place.path.clone() };
            let [abroad, at_home] = [false, true].map(|is_home| there.excludes(is_home, place));
            claims.iter().filter(move |(_, other)| {
                other != id && if other.namespace == id.namespace { at_home } else { abroad }
            })
        })
    }

    /// Who stands in the way of a claim; none: nobody.
    pub(crate) fn holder(&self, place: &Place, claim: &Claim) -> Option<&ObjectId> {
        self.rivals(place, &claim.1).filter(|other| *other < claim).min().map(|(_, id)| id)
    }

    pub(crate) fn claim(&mut self, place: &Place, claim: Claim) {
        let hosts = self.claims.entry(place.path.clone()).or_default();
        hosts.entry(place.host.clone()).or_default().insert(claim);
    }

    pub(crate) fn give_up(&mut self, place: &Place, claim: &Claim) {
        let Some(hosts) = self.claims.get_mut(&place.path) else {
            return;
        };
        if let Some(claims) = hosts.get_mut(&place.host) {
            claims.remove(claim);
            if claims.is_empty() {
                hosts.remove(&place.host);
            }
        }
        if hosts.is_empty() {
            self.claims.remove(&place.path);
        }
    }
}
