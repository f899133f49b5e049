//! Files that only we may read, and files that change as a whole.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `content` to `path` as a whole: a reader sees the old file or the new one, also after a crash. `secret`:
/// only this user may read it.
///
/// # Errors
/// The folder cannot be written.
pub fn write_whole(path: &Path, content: &[u8], secret: bool) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Dot files are not watched.
    let draft = folder.join(format!(".{name}.{}", random_hex::<4>()));
    let mode = if secret { 0o600 } else { 0o644 };
    let written = write_new(&draft, content, mode).and_then(|()| std::fs::rename(&draft, path));
    if let Err(error) = written {
        // The first error says what is wrong; a draft that cannot be removed either is told by the same.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    std::fs::File::open(folder)?.sync_all()
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Bytes from the system's source of randomness, in hexadecimal.
pub fn random_hex<const BYTES: usize>() -> String {
    let bytes: [u8; BYTES] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_secret_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_whole(&path, b"old", false).unwrap();
        write_whole(&path, b"new", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(write_whole(&path, b"text", false).is_err());
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
