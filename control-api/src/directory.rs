//! The directory of manifests: loaded for every question, changed one document at a time.
//!
//! Guarantees: a file changes as a whole or not at all; a document's neighbours stay byte for byte; what would not
//! load is not written. Comments inside a document that is changed are lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sallyport_api::manifest::{documents, load_str, to_yaml};
use sallyport_api::v1alpha1::MCPServer;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_runtime::files::write_whole;
use tokio::sync::Mutex;

use crate::error::ApiError;

/// Where an object stands.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    line: usize,
    modified: i64,
}

/// All objects that load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    objects: BTreeMap<(Kind, ObjectId), (Object, Place)>,
}

impl Objects {
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = (&ObjectId, &Object)> {
        self.objects.iter().filter(move |((k, _), _)| *k == kind).map(|((_, id), (object, _))| (id, object))
    }

    pub(crate) fn find(&self, kind: Kind, id: &ObjectId) -> Option<&Object> {
        self.objects.get(&(kind, id.clone())).map(|(object, _)| object)
    }

    pub(crate) fn server(&self, id: &ObjectId) -> Option<&MCPServer> {
        match self.find(Kind::Server, id) {
            Some(Object::Server(server)) => Some(server),
            Some(Object::Grant(_) | Object::Session(_)) | None => None,
        }
    }

    /// When the object's file was last written, in seconds since 1970.
    pub(crate) fn modified(&self, kind: Kind, id: &ObjectId) -> Option<i64> {
        self.objects.get(&(kind, id.clone())).map(|(_, place)| place.modified)
    }
}

/// The directory.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    writing: Mutex<()>,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), writing: Mutex::new(()) }
    }

    /// Loads everything.
    pub(crate) fn load(&self) -> std::io::Result<Objects> {
        let mut objects = Objects::default();
        let mut files = Vec::new();
        list(&self.root, &mut files)?;
        for file in files {
            // A file that went meanwhile is gone.
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let written =
                std::fs::metadata(&file).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let seconds = written.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let modified = i64::try_from(seconds).unwrap_or(i64::MAX);
            for loaded in load_str(&file.display().to_string(), &text).0 {
                let (namespace, name) = loaded.object.id();
                let key = (loaded.object.kind(), ObjectId::new(namespace, name));
                let place = Place { file: file.clone(), line: loaded.line, modified };
                objects.objects.entry(key).or_insert((loaded.object, place));
            }
        }
        Ok(objects)
    }

    /// Changes or adds an object: `change` gets it as it stands, and gives it as it shall be.
    pub(crate) async fn write(
        &self,
        kind: Kind,
        id: &ObjectId,
        change: impl FnOnce(Option<&Object>, &Objects) -> Result<Object, ApiError>,
    ) -> Result<Objects, ApiError> {
        let _one_at_a_time = self.writing.lock().await;
        let objects = self.load()?;
        let known = objects.objects.get(&(kind, id.clone()));
        let object = change(known.map(|(object, _)| object), &objects)?;
        let yaml = to_yaml(&object).map_err(ApiError::invalid)?;
        let (file, text) = match known {
            Some((_, place)) => (place.file.clone(), replaced(&place.file, place.line, &yaml)?),
            None => (self.new_file(kind, id)?, yaml),
        };
        let (loaded, problems) = load_str(&file.display().to_string(), &text);
        let stands =
            loaded.iter().any(|loaded| loaded.object.id() == object.id() && loaded.object.kind() == kind);
        if !stands {
            let problem = problems.first().map_or_else(String::new, ToString::to_string);
            return Err(ApiError::invalid(format!("the object would not load: {problem}")));
        }
        write_whole(&file, text.as_bytes(), false)?;
        Ok(self.load()?)
    }

    fn new_file(&self, kind: Kind, id: &ObjectId) -> std::io::Result<PathBuf> {
        let folder = self.root.join(match kind {
            Kind::Server => "servers",
            Kind::Grant => "grants",
            Kind::Session => "sessions",
        });
        std::fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("{}.{}.yaml", id.namespace, id.name)))
    }
}

/// The file's text with the document that begins at `line` replaced.
fn replaced(file: &Path, line: usize, yaml: &str) -> Result<String, ApiError> {
    let text = std::fs::read_to_string(file)?;
    let found = documents(&text).into_iter().find(|document| document.line == line);
    let Some(document) = found else {
        return Err(ApiError::unavailable("the file changed meanwhile; try again"));
    };
    let (before, rest) = text.split_at(document.offset);
    let after = rest.get(document.text.len()..).unwrap_or_default();
    let end = if yaml.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{before}{yaml}{end}{after}"))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# kept\napiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\nmetadata: {name: one, namespace: ns}\nspec: # kept too\n  serverRef: {name: s}\n  subject: {humanID: h}\n---\napiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\nmetadata: {name: two, namespace: ns}\nspec:\n  serverRef: {name: s}\n  subject: {humanID: h}\n";

    #[tokio::test]
    async fn neighbours_of_a_changed_document_stay_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, TWO).unwrap();
        let directory = Directory::new(folder.path());
        let id = ObjectId::new("ns", "two");
        let change = |known: Option<&Object>, _: &Objects| match known.cloned() {
            Some(Object::Grant(mut grant)) => {
                grant.spec.disabled = true;
                Ok(Object::Grant(grant))
            }
            _ => Err(ApiError::not_found("no such grant")),
        };
        directory.write(Kind::Grant, &id, change).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let border = TWO.find("---").unwrap();
        assert_eq!(&text[..border], &TWO[..border]);
        assert!(text[border..].contains("disabled: true"), "{text}");
        assert_eq!(directory.load().unwrap().of(Kind::Grant).count(), 2);
    }
}
