//! The directory as it was last read. Only files that changed are read again.
//!
//! It follows the rules of the control plane's own reader: a document that became bad keeps the object it held, and an
//! object without a time of creation has that of its file when it last changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sallyport_api::manifest::{ManifestProblem, load_str};
use sallyport_policy::ObjectId;

use crate::resources::{Key, ResourceError, Stored, View};

/// What tells a file from its successor; a rename changes the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

#[derive(Debug)]
struct FileState {
    stamp: Stamp,
    objects: BTreeMap<Key, Arc<Stored>>,
    problems: Vec<ManifestProblem>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
    view: Arc<View>,
}

impl Cache {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), files: BTreeMap::new(), view: Arc::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A file's name for people.
    pub(super) fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// The one file that holds an object.
    pub(super) fn file_of(&self, key: &Key) -> Result<PathBuf, ResourceError> {
        let mut holders =
            self.files.iter().filter(|(_, file)| file.objects.contains_key(key)).map(|(path, _)| path);
        match (holders.next(), holders.next()) {
            (Some(path), None) => Ok(path.clone()),
            (Some(one), Some(other)) => {
                let (one, other) = (self.name_of(one), self.name_of(other));
                let message = format!(
                    "{} `{}` is both in {one} and in {other}; keep one, then try again",
                    key.0.as_str(),
                    key.1
                );
                Err(ResourceError::Conflict(message))
            }
            (None, _) => Err(ResourceError::NotFound { kind: key.0, id: key.1.clone() }),
        }
    }

    /// Reads what changed since the last time.
    pub(super) fn refresh(&mut self) -> Result<Arc<View>, ResourceError> {
        let mut found = BTreeMap::new();
        list(&self.root, &mut found)
            .map_err(|source| ResourceError::Files { path: self.root.display().to_string(), source })?;
        let known = self.files.len();
        self.files.retain(|path, _| found.contains_key(path));
        let mut changed = self.files.len() != known;
        for (path, stamp) in found {
            if self.files.get(&path).is_none_or(|file| file.stamp != stamp) {
                self.read(path, stamp);
                changed = true;
            }
        }
        if changed {
            self.view = Arc::new(self.assemble());
        }
        Ok(Arc::clone(&self.view))
    }

    fn read(&mut self, path: PathBuf, stamp: Stamp) {
        let name = self.name_of(&path);
        let (loaded, problems) = match std::fs::read_to_string(&path) {
            Ok(text) => load_str(&name, &text),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                let (object, path) = (String::new(), String::new());
                let file = name.clone();
                (
                    Vec::new(),
                    vec![ManifestProblem { file, line: 1, object, path, reason: "Unreadable", message }],
                )
            }
        };
        let before = self.files.remove(&path).map(|file| file.objects).unwrap_or_default();
        let modified = stamp.modified.duration_since(SystemTime::UNIX_EPOCH).ok();
        let modified = modified.and_then(|since| i64::try_from(since.as_secs()).ok());
        let mut objects = BTreeMap::new();
        for loaded in loaded {
            let (namespace, id) = loaded.object.id();
            let key = (loaded.object.kind(), ObjectId::new(namespace, id));
            let issued_at = match before.get(&key) {
                Some(known) if known.object == loaded.object => known.issued_at,
                Some(_) | None => modified,
            };
            let origin = format!("{name}:{}", loaded.line);
            objects.insert(key, Arc::new(Stored { object: loaded.object, issued_at, origin }));
        }
        if !problems.is_empty() {
            // While something cannot be read, nobody knows that an object was meant to go.
            for (key, stored) in before {
                objects.entry(key).or_insert(stored);
            }
        }
        self.files.insert(path, FileState { stamp, objects, problems });
    }

    fn assemble(&self) -> View {
        let mut objects: BTreeMap<Key, Arc<Stored>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (path, file) in &self.files {
            for (key, stored) in &file.objects {
                match objects.entry(key.clone()) {
                    Entry::Vacant(place) => {
                        place.insert(self.with_age(key, stored));
                    }
                    // Of two files that hold the same object, the first by path counts.
                    Entry::Occupied(first) => {
                        problems.push(self.duplicate(key, path, &first.get().origin));
                    }
                }
            }
            problems.extend(file.problems.iter().cloned());
        }
        View { objects: objects.into_iter().collect(), problems }
    }

    /// The object with the age that is known of it, which it keeps when it moves to another file as it is.
    fn with_age(&self, key: &Key, stored: &Arc<Stored>) -> Arc<Stored> {
        match self.view.objects.get(key) {
            Some(known) if known.object == stored.object && known.issued_at != stored.issued_at => {
                Arc::new(Stored { issued_at: known.issued_at, ..Stored::clone(stored) })
            }
            Some(_) | None => Arc::clone(stored),
        }
    }

    fn duplicate(&self, key: &Key, path: &Path, first: &str) -> ManifestProblem {
        ManifestProblem {
            file: self.name_of(path),
            line: 1,
            object: format!("{} {}", key.0.as_str(), key.1),
            path: String::new(),
            reason: "Duplicate",
            message: format!("is also in {first}, which counts; keep one"),
        }
    }
}

fn list(folder: &Path, found: &mut BTreeMap<PathBuf, Stamp>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links to files are followed, links to folders are not: they may lead in a circle.
        if entry.file_type()?.is_dir() {
            match list(&path, found) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
            // A file that went while we looked is gone.
            && let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            let stamp = Stamp { modified: metadata.modified()?, size: metadata.len(), inode: metadata.ino() };
            found.insert(path, stamp);
        }
    }
    Ok(())
}
