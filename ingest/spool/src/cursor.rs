//! Up to where records were delivered, on disk.

use std::path::Path;

use crate::files::{Files, publish};

/// Name of its file.
const NAME: &str = "cursor";

/// Writes it; when this returns it is durable.
pub(crate) fn save(files: &dyn Files, folder: &Path, delivered: u64) -> std::io::Result<()> {
    let mut content = delivered.to_le_bytes().to_vec();
    content.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    publish(files, folder, NAME, &content).map(drop)
}

/// Reads it; none: there is none, or it is damaged.
pub(crate) fn load(files: &dyn Files, folder: &Path) -> std::io::Result<Option<u64>> {
    let content = match files.read(&folder.join(NAME), 0, 64) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parts = content.split_first_chunk::<8>();
    let whole = parts.filter(|(position, sum)| crc32fast::hash(*position).to_le_bytes() == **sum);
    if whole.is_none() {
        tracing::error!("the spool's cursor is damaged; everything that it holds is delivered again");
    }
    Ok(whole.map(|(position, _)| u64::from_le_bytes(*position)))
}
