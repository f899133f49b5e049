//! The directory source: manifests in files.
//!
//! Guarantees: only files that changed are read again; a file or document that became bad is reported, and the
//! objects it held stay as they were; a deleted file takes its objects with it; of two files that hold the same
//! object, the first by path counts, whatever was written last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sallyport_api::Object;
use sallyport_api::manifest::{ManifestProblem, load_str};
use sallyport_operator_index::Key;
use sallyport_policy::ObjectId;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// Everything whose file looks different.
    All,
    /// These files, whatever they look like.
    Files(BTreeSet<PathBuf>),
}

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

/// An object, and the time of its file when it came to be so, in seconds since 1970.
#[derive(Debug)]
struct Entry {
    object: Object,
    modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

#[derive(Debug)]
struct FileState {
    stamp: Stamp,
    entries: BTreeMap<Key, Arc<Entry>>,
}

/// The directory as it was last read.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
    /// Problems of the files that have some.
    problems: BTreeMap<PathBuf, Vec<ManifestProblem>>,
    /// Files by the object that they hold.
    holders: BTreeMap<Key, BTreeSet<PathBuf>>,
    /// Objects that more than one file holds.
    contested: BTreeSet<Key>,
    /// Objects as they were told last.
    told: BTreeMap<Key, Arc<Entry>>,
}

impl Directory {
    /// The directory `root`, given as the watcher tells its paths.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            files: BTreeMap::new(),
            problems: BTreeMap::new(),
            holders: BTreeMap::new(),
            contested: BTreeSet::new(),
            told: BTreeMap::new(),
        }
    }

    /// Reads what changed since the last time.
    pub(crate) fn read(&mut self, dirty: &Dirty) -> io::Result<Update> {
        let mut touched = BTreeSet::new();
        match dirty {
            Dirty::All => {
                let mut found = BTreeMap::new();
                list(&self.root, &mut found)?;
                let gone: Vec<PathBuf> =
                    self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
                for path in gone {
                    self.replace(&path, None, &mut touched);
                }
                for (path, stamp) in found {
                    if self.files.get(&path).is_none_or(|file| file.stamp != stamp) {
                        self.read_file(&path, stamp, &mut touched);
                    }
                }
            }
            Dirty::Files(paths) => {
                for path in paths {
                    if !is_manifest(&self.root, path) {
                        continue;
                    }
                    match std::fs::metadata(path).and_then(|metadata| stamp(&metadata)) {
                        Ok(stamp) => self.read_file(path, stamp, &mut touched),
                        Err(_) => self.replace(path, None, &mut touched),
                    }
                }
            }
        }
        Ok(self.tell(touched))
    }

    fn read_file(&mut self, path: &Path, stamp: Stamp, touched: &mut BTreeSet<Key>) {
        let name = self.name(path);
        let (loaded, problems) = match std::fs::read_to_string(path) {
            Ok(text) => load_str(&name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.replace(path, None, touched);
            }
            Err(error) => {
                let message = format!("cannot be read: {error}");
                let (object, path) = (String::new(), String::new());
                (
                    Vec::new(),
                    vec![ManifestProblem {
                        file: name,
                        line: 1,
                        object,
                        path,
                        reason: "Unreadable",
                        message,
                    }],
                )
            }
        };
        let before = self.files.get(path).map(|file| &file.entries);
        let seconds = stamp.modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let modified = i64::try_from(seconds).unwrap_or(i64::MAX);
        let mut entries = BTreeMap::new();
        for loaded in loaded {
            let (namespace, name) = loaded.object.id();
            let key = (loaded.object.kind(), ObjectId::new(namespace, name));
            let same =
                before.and_then(|before| before.get(&key)).filter(|entry| entry.object == loaded.object);
            let entry = same.cloned().unwrap_or_else(|| Arc::new(Entry { object: loaded.object, modified }));
            entries.insert(key, entry);
        }
        if !problems.is_empty() {
            // While something in the file cannot be read, nobody knows that an object was meant to go.
            for (key, entry) in before.into_iter().flatten() {
                entries.entry(key.clone()).or_insert_with(|| entry.clone());
            }
        }
        self.replace(path, Some(FileState { stamp, entries }), touched);
        if !problems.is_empty() {
            self.problems.insert(path.to_path_buf(), problems);
        }
    }

    /// Puts a file's new state in place of the old; none: the file is gone.
    fn replace(&mut self, path: &Path, state: Option<FileState>, touched: &mut BTreeSet<Key>) {
        self.problems.remove(path);
        let before = self.files.remove(path).map(|file| file.entries).unwrap_or_default();
        for key in before.into_keys() {
            if let Some(holders) = self.holders.get_mut(&key) {
                holders.remove(path);
            }
            touched.insert(key);
        }
        if let Some(state) = state {
            for key in state.entries.keys() {
                self.holders.entry(key.clone()).or_default().insert(path.to_path_buf());
                touched.insert(key.clone());
            }
            self.files.insert(path.to_path_buf(), state);
        }
    }

    /// Compares what was touched with what was told.
    fn tell(&mut self, touched: BTreeSet<Key>) -> Update {
        let mut update = Update::default();
        for key in touched {
            let holders = self.holders.get(&key).map_or(0, BTreeSet::len);
            match holders {
                0 => {
                    self.holders.remove(&key);
                    self.contested.remove(&key)
                }
                1 => self.contested.remove(&key),
                _ => self.contested.insert(key.clone()),
            };
            let first = self.holders.get(&key).and_then(BTreeSet::first);
            let entry = first.and_then(|path| self.files.get(path)?.entries.get(&key)).cloned();
            match (entry, self.told.get(&key)) {
                (Some(entry), Some(told)) if entry.object == told.object => {}
                (Some(entry), _) => {
                    update.upserts.push((entry.object.clone(), entry.modified));
                    self.told.insert(key, entry);
                }
                (None, _) => {
                    if self.told.remove(&key).is_some() {
                        update.removals.push(key);
                    }
                }
            }
        }
        update.problems = self.problems.values().flatten().cloned().chain(self.duplicates()).collect();
        update
    }

    fn duplicates(&self) -> impl Iterator<Item = ManifestProblem> {
        self.contested.iter().flat_map(move |key| {
            let mut holders = self.holders.get(key).into_iter().flatten();
            let first = holders.next().map(|path| self.name(path)).unwrap_or_default();
            holders.map(move |path| ManifestProblem {
                file: self.name(path),
                line: 1,
                object: format!("{} {}", key.0.as_str(), key.1),
                path: String::new(),
                reason: "Duplicate",
                message: format!("is also in {first}, which counts; keep one"),
            })
        })
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

fn stamp(metadata: &std::fs::Metadata) -> io::Result<Stamp> {
    Ok(Stamp { modified: metadata.modified()?, size: metadata.len(), inode: metadata.ino() })
}

fn has_manifest_name(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file below `root` is one to read: the name of a manifest, and no dot file or in a dot folder.
pub(crate) fn is_manifest(root: &Path, path: &Path) -> bool {
    has_manifest_name(path) && !is_below_hidden(root, path)
}

/// Whether a path is or lies in a dot file or folder below `root`.
pub(crate) fn is_below_hidden(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).unwrap_or(path).iter().any(is_hidden)
}

/// Links to files are followed, links to folders are not: they may lead in a circle.
fn list(folder: &Path, found: &mut BTreeMap<PathBuf, Stamp>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if is_hidden(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            match list(&path, found) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        } else if has_manifest_name(&path)
            // A file that went while we looked is gone.
            && let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            found.insert(path, stamp(&metadata)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
