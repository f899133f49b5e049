//! The directory source: manifests in files, watched.
//!
//! Guarantees: only files that changed are read again; a file or document that became bad is reported, and the
//! objects it held stay as they were; a deleted file takes its objects with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};
use sallyport_api::manifest::{ManifestProblem, load_str};
use sallyport_api::{Kind, Object};
use sallyport_operator_index::Key;
use sallyport_policy::ObjectId;
use tokio::sync::mpsc;

/// Events of one save come in a burst; so long we wait for the rest of it.
const SETTLE: Duration = Duration::from_millis(2);

/// What a reading of the directory found.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// Added or changed, with the time of their file in seconds since 1970.
    pub(crate) upserts: Vec<(Object, i64)>,
    /// Gone.
    pub(crate) removals: Vec<Key>,
    /// All problems of all files, as they are now.
    pub(crate) problems: Vec<ManifestProblem>,
}

#[derive(Debug)]
struct FileState {
    modified: SystemTime,
    size: u64,
    objects: BTreeMap<Key, Object>,
    problems: Vec<ManifestProblem>,
}

/// The directory as it was last read.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), files: BTreeMap::new() }
    }

    /// Reads what changed since the last time.
    pub(crate) fn read(&mut self) -> std::io::Result<Update> {
        let mut found = BTreeMap::new();
        list(&self.root, &mut found)?;
        let mut update = Update::default();
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        let mut removed: BTreeSet<Key> = BTreeSet::new();
        for path in gone {
            removed.extend(self.files.remove(&path).into_iter().flat_map(|file| file.objects.into_keys()));
        }
        for (path, (modified, size)) in found {
            if self.files.get(&path).is_some_and(|file| file.modified == modified && file.size == size) {
                continue;
            }
            removed.extend(self.read_file(&path, modified, size, &mut update));
        }
        // An object that moved to another file is not gone.
        removed.retain(|key| !self.files.values().any(|file| file.objects.contains_key(key)));
        update.removals = removed.into_iter().collect();
        update.problems = self.files.values().flat_map(|file| file.problems.clone()).collect();
        update.problems.extend(self.duplicates());
        Ok(update)
    }

    /// Reads one file; answers with the objects that it holds no more.
    fn read_file(&mut self, path: &Path, modified: SystemTime, size: u64, update: &mut Update) -> Vec<Key> {
        let name = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let (loaded, problems) = match std::fs::read_to_string(path) {
            Ok(text) => load_str(&name, &text),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                let (object, path) = (String::new(), String::new());
                (Vec::new(), vec![ManifestProblem { file: name, line: 1, object, path, reason: "Unreadable", message }])
            }
        };
        let before = self.files.remove(path).map(|file| file.objects).unwrap_or_default();
        let seconds = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut objects = BTreeMap::new();
        for loaded in loaded {
            let (namespace, name) = loaded.object.id();
            let key = (loaded.object.kind(), ObjectId::new(namespace, name));
            if before.get(&key) != Some(&loaded.object) {
                update.upserts.push((loaded.object.clone(), i64::try_from(seconds).unwrap_or(i64::MAX)));
            }
            objects.insert(key, loaded.object);
        }
        let missing: Vec<Key> = before.keys().filter(|key| !objects.contains_key(*key)).cloned().collect();
        // While something in the file cannot be read, nobody knows that an object was meant to go.
        let kept = if problems.is_empty() { Vec::new() } else { missing.clone() };
        for key in &kept {
            if let Some(object) = before.get(key) {
                objects.insert(key.clone(), object.clone());
            }
        }
        self.files.insert(path.to_path_buf(), FileState { modified, size, objects, problems });
        if kept.is_empty() { missing } else { Vec::new() }
    }

    fn duplicates(&self) -> Vec<ManifestProblem> {
        let mut first: BTreeMap<&Key, &Path> = BTreeMap::new();
        let mut problems = Vec::new();
        for (path, key) in self.files.iter().flat_map(|(path, file)| file.objects.keys().map(move |key| (path, key))) {
            if let Some(other) = first.insert(key, path) {
                problems.push(ManifestProblem {
                    file: path.strip_prefix(&self.root).unwrap_or(path).display().to_string(),
                    line: 1,
                    object: format!("{} {}", kind_name(key.0), key.1),
                    path: String::new(),
                    reason: "Duplicate",
                    message: format!("is also in {}; keep one", other.strip_prefix(&self.root).unwrap_or(other).display()),
                });
            }
        }
        problems
    }
}

fn kind_name(kind: Kind) -> &'static str {
    kind.as_str()
}

fn list(folder: &Path, found: &mut BTreeMap<PathBuf, (SystemTime, u64)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // A file that went while we looked is gone.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if metadata.is_dir() {
            list(&path, found)?;
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
            found.insert(path, (metadata.modified()?, metadata.len()));
        }
    }
    Ok(())
}

/// Watches the directory; each message means that it is time to read it.
pub(crate) fn watch(root: &Path) -> notify::Result<(notify::RecommendedWatcher, mpsc::Receiver<()>)> {
    let (sender, receiver) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel means that a reading is due already.
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok((watcher, receiver))
}

/// Waits until the directory changed and the burst is over.
pub(crate) async fn changed(events: &mut mpsc::Receiver<()>) -> bool {
    if events.recv().await.is_none() {
        return false;
    }
    while tokio::time::timeout(SETTLE, events.recv()).await.is_ok_and(|event| event.is_some()) {}
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\nmetadata: {name: NAME, namespace: n}\nspec:\n  serverRef: {name: s}\n  subject: {humanID: h}\n";

    fn grant(name: &str) -> String {
        GRANT.replace("NAME", name)
    }

    #[test]
    fn only_what_changed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        std::fs::write(folder.path().join("a.yaml"), format!("{}---\n{}", grant("one"), grant("two"))).unwrap();
        assert_eq!(directory.read().unwrap().upserts.len(), 2);
        assert_eq!(directory.read().unwrap().upserts.len(), 0);
        std::fs::write(folder.path().join("a.yaml"), format!("{}---\n{}  disabled: true\n", grant("one"), grant("two"))).unwrap();
        let update = directory.read().unwrap();
        assert_eq!((update.upserts.len(), update.removals.len()), (1, 0));
        std::fs::remove_file(folder.path().join("a.yaml")).unwrap();
        assert_eq!(directory.read().unwrap().removals.len(), 2);
    }

    #[test]
    fn a_bad_file_is_reported_and_its_objects_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, grant("one")).unwrap();
        directory.read().unwrap();
        std::fs::write(&path, "kind: [").unwrap();
        let update = directory.read().unwrap();
        assert_eq!((update.removals.len(), update.problems.len()), (0, 1));
        assert_eq!(update.problems[0].file, "a.yaml");
        std::fs::write(&path, grant("other")).unwrap();
        let update = directory.read().unwrap();
        assert_eq!((update.upserts.len(), update.removals.len(), update.problems.len()), (1, 1, 0));
    }

    #[test]
    fn an_object_that_moves_between_files_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        std::fs::write(folder.path().join("a.yaml"), grant("one")).unwrap();
        directory.read().unwrap();
        std::fs::rename(folder.path().join("a.yaml"), folder.path().join("b.yaml")).unwrap();
        assert_eq!(directory.read().unwrap().removals, []);
    }
}
