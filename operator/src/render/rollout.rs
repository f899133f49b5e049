//! Which template runs on which track. A pure decision over the kept revisions, the wanted template and what people said.
//!
//! - A revision is a pod template with a number. Numbers only grow; a template that returns gets a new one, so a number that
//!   somebody promoted or rolled back never comes to mean a later wish.
//! - The **current** revision is the one promoted last: stable pods run it. The **candidate** is the one that the spec asks for.
//! - Without a canary the candidate is promoted at once. With one it runs beside the current revision until
//!   `mcpruntime.org/promote` names its number.
//! - `mcpruntime.org/rollback` names a number that shall not run: stable pods go back to what was promoted before it, and there
//!   is no canary of it. It holds until the annotation goes or the spec asks for another template.

use sallyport_resolve::Problem;

use super::names;
use super::prepare::warning;

/// Revisions that are kept of each server.
pub const HISTORY: usize = 10;

/// A revision that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Its number, as people name it.
    pub number: u64,
    /// Digest of its template.
    pub hash: String,
    /// Its place in the order of promotions; none: it was never promoted, or rolled back.
    pub promoted: Option<u64>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The server's name.
    pub server: &'a str,
    /// Digest of the template that the spec asks for.
    pub hash: &'a str,
    /// New templates run on a canary first.
    pub wants_canary: bool,
    /// The annotation `mcpruntime.org/promote`.
    pub promote: Option<&'a str>,
    /// The annotation `mcpruntime.org/rollback`.
    pub rollback: Option<&'a str>,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new revision, of the template that the spec asks for.
    Create(Revision),
    /// A kept one has this number and place now.
    Update(Revision),
    /// The one of this name is not needed any more.
    Delete(String),
}

/// Which template runs on which track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What stable pods run.
    pub stable: Revision,
    /// What the canary runs, if there is one.
    pub canary: Option<Revision>,
    /// The spec asks for this revision, which was rolled back.
    pub rejected: Option<u64>,
    /// Changes of what is kept; they come before pods change.
    pub writes: Vec<Write>,
    /// Annotations that cannot be followed.
    pub problems: Vec<Problem>,
}

/// Decides.
pub fn decide(kept: &[Revision], wish: Wish<'_>) -> Decision {
    let mut problems = Vec::new();
    let promote = number(names::PROMOTE, wish.promote, &mut problems);
    let rollback = number(names::ROLLBACK, wish.rollback, &mut problems);
    let mut revisions = Revisions::new(kept);
    let current = revisions.current(None);
    let candidate = revisions.candidate(&wish, current.as_ref(), rollback);
    let fallback = revisions.current(Some(candidate.number));
    let is_rejected = rollback == Some(candidate.number);
    let (stable, canary) = match (current, fallback) {
        (_, Some(fallback)) if is_rejected => {
            revisions.place(&candidate, None);
            (fallback, None)
        }
        (Some(current), _) if current.number == candidate.number => (current, None),
        (Some(current), _) if wish.wants_canary && promote != Some(candidate.number) => {
            (current, Some(candidate.clone()))
        }
        _ => {
            let next = revisions.last_place() + 1;
            (revisions.place(&candidate, Some(next)), None)
        }
    };
    if is_rejected && stable.number == candidate.number {
        let message = format!("names revision {}, and there is no older one to go back to", candidate.number);
        problems.push(warning(annotation(names::ROLLBACK), "NothingToRollBackTo", message));
    }
    let rejected = (stable.number != candidate.number && canary.is_none()).then_some(candidate.number);
    let keep = [
        Some(stable.number),
        Some(candidate.number),
        revisions.current(Some(stable.number)).map(|r| r.number),
    ];
    revisions.prune(&keep);
    Decision { stable, canary, rejected, writes: revisions.writes(), problems }
}

/// Revisions as they are, and as they were.
struct Revisions<'a> {
    before: &'a [Revision],
    now: Vec<Revision>,
}

impl<'a> Revisions<'a> {
    fn new(before: &'a [Revision]) -> Self {
        Self { before, now: before.to_vec() }
    }

    /// The one promoted last, without one of them.
    fn current(&self, without: Option<u64>) -> Option<Revision> {
        let others = self.now.iter().filter(|revision| Some(revision.number) != without);
        others
            .filter(|revision| revision.promoted.is_some())
            .max_by_key(|revision| revision.promoted)
            .cloned()
    }

    fn last_place(&self) -> u64 {
        self.now.iter().filter_map(|revision| revision.promoted).max().unwrap_or(0)
    }

    fn top(&self) -> u64 {
        self.now.iter().map(|revision| revision.number).max().unwrap_or(0)
    }

    /// The revision of the wanted template: a kept one, or a new one.
    fn candidate(&mut self, wish: &Wish<'_>, current: Option<&Revision>, rollback: Option<u64>) -> Revision {
        if let Some(current) = current.filter(|current| current.hash == wish.hash) {
            return current.clone();
        }
        let top = self.top();
        let same = self.now.iter_mut().filter(|revision| revision.hash == wish.hash);
        if let Some(revision) = same.max_by_key(|revision| revision.number) {
            // It returns after others. One that is rolled back keeps the number by which it is known.
            if revision.number != top && rollback != Some(revision.number) {
                revision.number = top + 1;
                revision.promoted = None;
            }
            return revision.clone();
        }
        let name = format!("{}-{}", wish.server, wish.hash);
        let revision = Revision { name, number: top + 1, hash: wish.hash.into(), promoted: None };
        self.now.push(revision.clone());
        revision
    }

    /// Gives a revision another place in the order of promotions.
    fn place(&mut self, of: &Revision, promoted: Option<u64>) -> Revision {
        for revision in self.now.iter_mut().filter(|revision| revision.number == of.number) {
            revision.promoted = promoted;
        }
        Revision { promoted, ..of.clone() }
    }

    /// Forgets the oldest beyond what is kept.
    fn prune(&mut self, keep: &[Option<u64>]) {
        self.now.sort_by_key(|revision| revision.number);
        let mut excess = self.now.len().saturating_sub(HISTORY);
        self.now.retain(|revision| {
            let goes = excess > 0 && !keep.contains(&Some(revision.number));
            excess -= usize::from(goes);
            !goes
        });
    }

    fn writes(&self) -> Vec<Write> {
        let now = |name: &str| self.now.iter().find(|revision| revision.name == name);
        let changed = self.now.iter().filter_map(|revision| {
            match self.before.iter().find(|before| before.name == revision.name) {
                None => Some(Write::Create(revision.clone())),
                Some(before) if before != revision => Some(Write::Update(revision.clone())),
                Some(_) => None,
            }
        });
        let gone = self.before.iter().filter(|before| now(&before.name).is_none());
        changed.chain(gone.map(|before| Write::Delete(before.name.clone()))).collect()
    }
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

fn number(name: &str, text: Option<&str>, problems: &mut Vec<Problem>) -> Option<u64> {
    let text = text?;
    let number = text.trim().parse().ok();
    if number.is_none() {
        let message = format!(
            "is `{text}`; must be the number of a revision, as the Deployment's annotation {} has it",
            names::REVISION
        );
        problems.push(warning(annotation(name), "InvalidRevision", message));
    }
    number
}

#[cfg(test)]
mod tests;
