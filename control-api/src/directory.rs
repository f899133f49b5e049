//! Resources in a directory of manifests.
//!
//! Guarantees: a write replaces one file as a whole (temporary file, fsync, rename), after the new text was read back
//! and found to differ in the one object only; writes come one after the other. Assumes that nobody else rewrites the
//! same file in the same millisecond: it is read right before it is replaced, but not locked.

mod cache;
mod edit;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use sallyport_api::schema::SchemaProblem;
use sallyport_api::{API_VERSION, Kind};
use sallyport_policy::ObjectId;
use sallyport_runtime::files::write_whole;
use serde_json::{Map, Value, json};

use crate::resources::{Change, Key, ResourceError, Resources, View, Written, kill_switch};
use cache::Cache;

/// Longest file name that leaves room for the temporary file's.
const MAX_FILE_NAME: usize = 230;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    cache: Arc<Mutex<Cache>>,
}

impl Directory {
    /// The directory at `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { cache: Arc::new(Mutex::new(Cache::new(root))) }
    }

    /// Works on the files, away from the runtime's threads, one after the other.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Cache) -> Result<T, ResourceError> + Send + 'static,
    ) -> Result<T, ResourceError> {
        let cache = Arc::clone(&self.cache);
        let task = tokio::task::spawn_blocking(move || {
            work(&mut cache.lock().unwrap_or_else(PoisonError::into_inner))
        });
        task.await.map_err(|_| ResourceError::Stopped)?
    }
}

#[async_trait]
impl Resources for Directory {
    fn source(&self) -> &'static str {
        "directory"
    }

    async fn view(&self) -> Result<Arc<View>, ResourceError> {
        self.work(Cache::refresh).await
    }

    async fn put(
        &self,
        key: Key,
        spec: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Written, ResourceError> {
        self.work(move |cache| {
            let view = cache.refresh()?;
            if view.objects.contains_key(&key) {
                change(cache, &view, &key, now, |known| replace_spec(known, spec, key.0))
            } else {
                create(cache, &key, spec, now)
            }
        })
        .await
    }

    async fn patch(
        &self,
        key: Key,
        fields: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Written, ResourceError> {
        self.work(move |cache| {
            let view = cache.refresh()?;
            view.get(key.0, &key.1)?;
            change(cache, &view, &key, now, |known| known.extend(fields))
        })
        .await
    }
}

fn replace_spec(known: &mut Map<String, Value>, mut spec: Map<String, Value>, kind: Kind) {
    if let Some(switch) = kill_switch(kind)
        && !spec.contains_key(switch)
        && let Some(state) = known.remove(switch)
    {
        spec.insert(switch.into(), state);
    }
    *known = spec;
}

fn files_error(path: &Path) -> impl FnOnce(std::io::Error) -> ResourceError {
    let path = path.display().to_string();
    move |source| ResourceError::Files { path, source }
}

/// Changes the spec of an existing object within its own document of its own file.
fn change(
    cache: &mut Cache,
    view: &View,
    key: &Key,
    now: Timestamp,
    edit: impl FnOnce(&mut Map<String, Value>),
) -> Result<Written, ResourceError> {
    let path = cache.file_of(key)?;
    inside(cache.root(), &path)?;
    let text = std::fs::read_to_string(&path).map_err(files_error(&path))?;
    // An object without a time of creation has had its file's until now, and must not grow younger by being touched.
    let issued_at =
        view.get(key.0, &key.1)?.issued_at.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let created = seconds_only(issued_at.unwrap_or(now));
    let edited = edit::change(&cache.name_of(&path), &text, key, |document| {
        if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.entry("creationTimestamp").or_insert_with(|| created.into());
        }
        if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
            edit(spec);
        }
    })?;
    let Some(edited) = edited else {
        return Ok(Written { change: Change::None, view: cache.refresh()? });
    };
    write_whole(&path, edited.as_bytes(), is_private(&path)).map_err(files_error(&path))?;
    Ok(Written { change: Change::Updated, view: cache.refresh()? })
}

fn create(
    cache: &mut Cache,
    key: &Key,
    spec: Map<String, Value>,
    now: Timestamp,
) -> Result<Written, ResourceError> {
    let path = new_file(cache.root(), key)?;
    let name = cache.name_of(&path);
    let document = json!({
        "apiVersion": API_VERSION, "kind": key.0.as_str(),
        "metadata": { "name": key.1.name, "namespace": key.1.namespace, "creationTimestamp": seconds_only(now) },
        "spec": spec,
    });
    // Only after this has read it back is the name known to be one that cannot leave the directory.
    let text = edit::fresh(&name, &document, key)?;
    if path.exists() {
        let (kind, id) = (key.0.as_str(), &key.1);
        let message = format!("{name} is there already and does not hold {kind} `{id}`; move or mend it");
        return Err(ResourceError::Conflict(message));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(files_error(folder))?;
        inside(cache.root(), folder)?;
    }
    write_whole(&path, text.as_bytes(), false).map_err(files_error(&path))?;
    Ok(Written { change: Change::Created, view: cache.refresh()? })
}

/// The file of a new object: `grants/{namespace}.{name}.yaml`. A namespace has no dot, so no two objects share one.
fn new_file(root: &Path, key: &Key) -> Result<PathBuf, ResourceError> {
    let ObjectId { namespace, name } = &key.1;
    let invalid = |path: &str, message: String| {
        ResourceError::Invalid(vec![SchemaProblem { path: path.into(), reason: "WrongValue", message }])
    };
    if namespace.contains('.') || namespace.len() > 63 {
        let message = format!("is `{namespace}`; must have no dot and at most 63 characters");
        return Err(invalid("metadata.namespace", message));
    }
    let folder = match key.0 {
        Kind::Grant => "grants",
        Kind::Session => "sessions",
        Kind::Server => "servers",
    };
    let file = format!("{namespace}.{name}.yaml");
    if file.len() > MAX_FILE_NAME {
        let most = MAX_FILE_NAME - namespace.len() - ".".len() - ".yaml".len();
        let message = format!("is {} characters long; at most {most} fit a file name here", name.len());
        return Err(invalid("metadata.name", message));
    }
    Ok(root.join(folder).join(file))
}

/// Refuses a path that a link leads elsewhere.
fn inside(root: &Path, path: &Path) -> Result<(), ResourceError> {
    let real = |path: &Path| std::fs::canonicalize(path).map_err(files_error(path));
    if real(path)?.starts_with(real(root)?) && !path.is_symlink() {
        return Ok(());
    }
    let path = path.strip_prefix(root).unwrap_or(path).display();
    let message =
        format!("{path} is a link, or lies outside the directory of manifests; change it where it is kept");
    Err(ResourceError::Conflict(message))
}

fn is_private(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

/// Kubernetes' times of creation have whole seconds.
fn seconds_only(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests;
