//! Tells when files of a directory changed.
//!
//! A file that was closed, renamed or deleted is told at once; one that is still being written when it falls silent,
//! so that a half-written file is not read. What the system's notices miss, a look at everything finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, RemoveKind};
use notify::{Event, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::directory::{Dirty, is_below_hidden, is_manifest};

/// Notices of one act come in a burst; so long we wait for the rest of it.
const SETTLE: Duration = Duration::from_millis(1);
/// A file that was written to and not closed is read when nothing more came for so long.
const SILENCE: Duration = Duration::from_millis(100);
/// Everything is looked at this often at least.
const RESCAN: Duration = Duration::from_secs(10);

/// Watches a directory.
#[derive(Debug)]
pub(crate) struct Watch {
    root: PathBuf,
    notices: mpsc::UnboundedReceiver<notify::Result<Event>>,
    /// Files that are being written, and when they count as silent.
    open: BTreeMap<PathBuf, Instant>,
    due: BTreeSet<PathBuf>,
    all: bool,
    /// Ends with this value.
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    pub(crate) fn new(root: &Path) -> notify::Result<Self> {
        let (sender, notices) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |notice| {
            // Nobody listens any more only when the process ends.
            let _ = sender.send(notice);
        })?;
        watcher.watch(root, RecursiveMode::Recursive)?;
        let root = root.to_path_buf();
        Ok(Self { root, notices, open: BTreeMap::new(), due: BTreeSet::new(), all: false, _watcher: watcher })
    }

    /// Waits until there is something to read. Nothing is lost if the waiting is given up.
    pub(crate) async fn changed(&mut self) -> Dirty {
        let rescan = Instant::now() + RESCAN;
        loop {
            let is_due = self.all || !self.due.is_empty();
            let silent = self.open.values().min().copied();
            let until =
                if is_due { Instant::now() + SETTLE } else { silent.map_or(rescan, |at| at.min(rescan)) };
            match tokio::time::timeout_at(until, self.notices.recv()).await {
                Ok(Some(notice)) => self.take(notice),
                // The watcher is gone: looking now and then is what is left.
                Ok(None) => {
                    tokio::time::sleep_until(rescan).await;
                    return Dirty::All;
                }
                Err(_) if is_due => {
                    let due = std::mem::take(&mut self.due);
                    return if std::mem::take(&mut self.all) { Dirty::All } else { Dirty::Files(due) };
                }
                Err(_) => {
                    let now = Instant::now();
                    let (due, open) =
                        std::mem::take(&mut self.open).into_iter().partition(|(_, at)| *at <= now);
                    self.open = open;
                    self.due = BTreeMap::<PathBuf, Instant>::into_keys(due).collect();
                    // A folder is among them, or time is up.
                    self.all = now >= rescan || self.due.iter().any(|path| !is_manifest(&self.root, path));
                }
            }
        }
    }

    fn take(&mut self, notice: notify::Result<Event>) {
        let Ok(event) = notice else {
            self.all = true;
            return;
        };
        if event.need_rescan() {
            self.all = true;
        }
        for path in event.paths.into_iter().filter(|path| !is_below_hidden(&self.root, path)) {
            let is_file = is_manifest(&self.root, &path);
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(notify::event::ModifyKind::Name(_))
                | EventKind::Remove(_)
                    if is_file =>
                {
                    self.open.remove(&path);
                    self.due.insert(path);
                }
                // A folder went, or came with all that is in it.
                EventKind::Remove(RemoveKind::Folder)
                | EventKind::Modify(notify::event::ModifyKind::Name(_)) => {
                    self.all = true;
                }
                // Files may be in it already that nobody tells of.
                EventKind::Create(CreateKind::Folder) => {
                    self.open.insert(path, Instant::now() + SILENCE);
                }
                EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other
                    if is_file =>
                {
                    self.open.insert(path, Instant::now() + SILENCE);
                }
                EventKind::Access(_)
                | EventKind::Create(_)
                | EventKind::Modify(_)
                | EventKind::Remove(_)
                | EventKind::Any
                | EventKind::Other => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn within(watch: &mut Watch, limit: Duration) -> Dirty {
        tokio::time::timeout(limit, watch.changed()).await.expect("a notice in time")
    }

    fn only(path: &Path) -> Dirty {
        Dirty::Files(BTreeSet::from([path.to_path_buf()]))
    }

    #[tokio::test]
    async fn a_file_is_told_when_it_is_closed_renamed_or_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path()).unwrap();
        let (draft, path) = (folder.path().join(".draft"), folder.path().join("a.yaml"));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(within(&mut watch, RESCAN / 2).await, only(&path));
        std::fs::write(&draft, "two").unwrap();
        std::fs::rename(&draft, &path).unwrap();
        assert_eq!(within(&mut watch, RESCAN / 2).await, only(&path));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(within(&mut watch, RESCAN / 2).await, only(&path));
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_told_when_it_falls_silent() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path()).unwrap();
        let path = folder.path().join("a.yaml");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        let began = Instant::now();
        assert_eq!(within(&mut watch, RESCAN / 2).await, only(&path));
        assert!(began.elapsed() >= SILENCE / 2, "{:?}", began.elapsed());
        drop(file);
        assert_eq!(within(&mut watch, RESCAN / 2).await, only(&path));
    }

    #[tokio::test]
    async fn a_folder_that_comes_or_goes_means_looking_at_everything() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path()).unwrap();
        let inner = folder.path().join("team");
        std::fs::create_dir(&inner).unwrap();
        assert_eq!(within(&mut watch, RESCAN / 2).await, Dirty::All);
        std::fs::rename(&inner, folder.path().join("other")).unwrap();
        assert_eq!(within(&mut watch, RESCAN / 2).await, Dirty::All);
    }
}
