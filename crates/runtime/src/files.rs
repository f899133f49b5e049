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
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Dot files are not watched.
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Bytes from the system's source of randomness, in hexadecimal.
pub fn random_hex<const BYTES: usize>() -> String {
    let bytes: [u8; BYTES] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
