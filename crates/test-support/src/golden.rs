//! Golden files.

use std::path::Path;

/// Compares `actual` with the golden file at `path`. `UPDATE_GOLDEN=1` writes it instead, which CI forbids.
///
/// # Panics
/// They differ, or the file cannot be read or written.
pub fn assert_golden(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        assert!(std::env::var_os("CI").is_none(), "golden files are not written in CI");
        if let Some(folder) = path.parent()
            && let Err(error) = std::fs::create_dir_all(folder)
        {
            panic!("cannot make {}: {error}", folder.display());
        }
        if let Err(error) = std::fs::write(path, actual) {
            panic!("cannot write {}: {error}", path.display());
        }
        return;
    }
    match std::fs::read_to_string(path) {
        Ok(expected) if expected == actual => {}
        Ok(expected) => {
            let line = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
            let (old, new) = (expected.lines().nth(line), actual.lines().nth(line));
            panic!(
                "{} differs at line {}:\n  golden: {old:?}\n  actual: {new:?}\nUPDATE_GOLDEN=1 writes it anew",
                path.display(),
                line + 1
            );
        }
        Err(error) => panic!("cannot read {}: {error}; UPDATE_GOLDEN=1 writes it", path.display()),
    }
}
