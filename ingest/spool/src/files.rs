//! What the log needs of a file system. Tests put one beneath it that fails.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::spool::OpenError;

/// Ending of files that are not whole yet.
pub(crate) const DRAFT: &str = ".draft";

/// A file that is written once, from its beginning to its end.
pub(crate) trait Appending: Send + std::fmt::Debug {
    /// Adds bytes to the end; after an error nobody knows how many are there.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Returns when everything that was added is on disk; after an error nothing may be assumed of it, nor of any later call.
    fn sync(&mut self) -> std::io::Result<()>;
}

/// A folder's files.
pub(crate) trait Files: Send + Sync + std::fmt::Debug {
    /// Names of all files.
    fn list(&self, folder: &Path) -> std::io::Result<Vec<String>>;
    /// An empty file, in place of any other.
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn Appending>>;
    /// Up to `length` bytes from `offset`; fewer only at the end.
    fn read(&self, path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>>;
    /// Bytes of a file.
    fn length(&self, path: &Path) -> std::io::Result<u64>;
    /// Gives a file another name, in place of any other file.
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> std::io::Result<()>;
    /// Returns when the folder's names are on disk.
    fn sync_folder(&self, folder: &Path) -> std::io::Result<()>;
}

/// Makes the file `name`, in place of any other, so that after a crash there is either none (the old one) or the whole
/// of it. More may be added to it.
pub(crate) fn publish(
    files: &dyn Files,
    folder: &Path,
    name: &str,
    content: &[u8],
) -> std::io::Result<Box<dyn Appending>> {
    let draft = folder.join(format!("{name}{DRAFT}"));
    let mut file = files.create(&draft)?;
    file.append(content)?;
    file.sync()?;
    files.rename(&draft, &folder.join(name))?;
    files.sync_folder(folder)?;
    Ok(file)
}

/// The real one. As long as it is there, no other process has the folder.
#[derive(Debug)]
pub(crate) struct Disk {
    _lock: File,
}

impl Disk {
    /// Takes the folder, making it if it is missing.
    pub(crate) fn lock(folder: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(folder)?;
        let file = File::create(folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: folder.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Appending for File {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.sync_data()
    }
}

impl Files for Disk {
    fn list(&self, folder: &Path) -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn Appending>> {
        Ok(Box::new(File::create(path)?))
    }

    fn read(&self, path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&self, path: &Path) -> std::io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        File::open(folder)?.sync_all()
    }
}
