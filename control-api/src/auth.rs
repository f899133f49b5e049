//! API keys.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sallyport_runtime::tokens::digest;
use subtle::{Choice, ConstantTimeEq};

use crate::app::App;
use crate::error::{ApiError, Code};

/// Header that carries the key.
pub(crate) const HEADER: &str = "x-api-key";
/// Environment variable with more keys.
pub(crate) const VARIABLE: &str = "SALLYPORT_API_KEYS";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the API keys in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody could call the API.
    #[error(
        "no API keys are configured; put one per line into a file for --api-keys-file, name a Secret, or set {VARIABLE}"
    )]
    None,
    /// It could never be sent.
    #[error(
        "an API key in {origin} has other characters than visible ASCII; make a new one, as with `openssl rand -hex 32`"
    )]
    Unsendable {
        /// File or variable.
        origin: String,
    },
}

/// Keys as digests only: all have one length, and none can be told.
pub(crate) type Digests = BTreeSet<String>;

/// The keys that count now.
#[derive(Clone)]
pub(crate) struct Keys(Arc<RwLock<Digests>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} redacted)", self.now().len())
    }
}

/// Keys of a file and of a Secret's text (one per line, `#` begins a comment), and of a variable (separated by commas).
///
/// # Errors
/// There are none, or the file cannot be read.
pub(crate) fn read_keys(
    file: Option<&Path>,
    variable: Option<&OsStr>,
    secret: Option<&str>,
) -> Result<Digests, KeysError> {
    let mut keys = BTreeSet::new();
    if let Some(path) = file {
        let read = |source| KeysError::Read { path: path.to_path_buf(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        add(&mut keys, lines(&text), &path.display().to_string())?;
    }
    if let Some(text) = secret {
        add(&mut keys, lines(text), "the Secret")?;
    }
    if let Some(text) = variable {
        add(&mut keys, text.to_string_lossy().split(','), VARIABLE)?;
    }
    if keys.is_empty() { Err(KeysError::None) } else { Ok(keys) }
}

impl Keys {
    /// These count.
    pub(crate) fn new(keys: Digests) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }

    /// From now on these count, and no others. Answers whether they are others than before.
    pub(crate) fn replace(&self, keys: Digests) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_changed = *known != keys;
        *known = keys;
        is_changed
    }

    fn now(&self) -> RwLockReadGuard<'_, Digests> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request carries a key that counts. Takes as long for a near miss as for a far one, and looks at
    /// every key in any case.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut presented = headers.get_all(HEADER).iter();
        let (Some(key), None) = (presented.next(), presented.next()) else {
            return false;
        };
        let presented = digest(key.to_str().unwrap_or_default());
        let all = self.now();
        let known = all.iter().map(|known| known.as_bytes().ct_eq(presented.as_bytes()));
        known.fold(Choice::from(0), |any, one| any | one).into()
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default())
}

fn add<'k>(
    keys: &mut BTreeSet<String>,
    found: impl Iterator<Item = &'k str>,
    origin: &str,
) -> Result<(), KeysError> {
    for key in found.map(str::trim).filter(|key| !key.is_empty()) {
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeysError::Unsendable { origin: origin.into() });
        }
        keys.insert(digest(key));
    }
    Ok(())
}

/// Lets pass what carries a key, and the few paths that need none.
pub(crate) async fn require_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_open = app.open_paths().any(|path| path == request.uri().path());
    if is_open || app.keys.admit(request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(Code::Unauthorized, format!("send a valid API key in the header {HEADER}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(keys: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(HEADER, axum::http::HeaderValue::from_static(key));
        }
        headers
    }

    #[test]
    fn keys_come_from_file_and_variable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "# ours\n\n one # the first\ntwo\n").unwrap();
        let keys = read_keys(Some(&path), Some(OsStr::new("three, four")), Some("five # by hand\n")).unwrap();
        let keys = Keys::new(keys);
        for key in ["one", "two", "three", "four", "five"] {
            assert!(keys.admit(&headers(&[key])), "{key}");
        }
        for wrong in [&[][..], &["onE"], &[""], &["#"], &["one", "one"], &["one two"]] {
            assert!(!keys.admit(&headers(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn no_keys_and_unreadable_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "# none yet\n").unwrap();
        assert!(matches!(read_keys(Some(&path), None, None), Err(KeysError::None)));
        assert!(matches!(read_keys(None, Some(OsStr::new(" , ")), Some("# none")), Err(KeysError::None)));
        assert!(matches!(
            read_keys(Some(&folder.path().join("gone")), None, None),
            Err(KeysError::Read { .. })
        ));
        std::fs::write(&path, "two words\n").unwrap();
        assert!(matches!(read_keys(Some(&path), None, None), Err(KeysError::Unsendable { .. })));
    }

    #[test]
    fn keys_are_not_told() {
        let keys = Keys::new(read_keys(None, Some(OsStr::new("very-secret")), None).unwrap());
        assert_eq!(format!("{keys:?}"), "Keys(1 redacted)");
    }
}
