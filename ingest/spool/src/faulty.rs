//! A file system in memory that fails as asked, and forgets at a crash what was never made durable.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::files::{Appending, Files};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation does nothing and fails.
    Io,
    /// A write stops after so many bytes for want of room.
    NoSpace(usize),
    /// An fsync fails, and the kernel forgets that the pages were never written.
    Sync,
}

#[derive(Debug, Default)]
struct Inode {
    /// What a process reads.
    cached: Vec<u8>,
    /// What is on disk; a byte that is not is 0xee.
    disk: Vec<u8>,
    /// Up to where the kernel believes to have written.
    clean: usize,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    /// Names after a crash: before the changes that no folder sync followed, and with each of them.
    possible: Vec<BTreeMap<PathBuf, usize>>,
    /// The fault of each coming operation that changes something.
    faults: Vec<Option<Fault>>,
}

impl State {
    fn fault(&mut self) -> Option<Fault> {
        self.faults.pop().flatten()
    }

    fn renamed(&mut self) {
        self.possible.push(self.names.clone());
    }
}

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty(Arc<Mutex<State>>);

#[derive(Debug)]
struct Handle {
    disk: Faulty,
    inode: usize,
}

fn io(fault: Fault) -> Error {
    match fault {
        Fault::NoSpace(_) => ErrorKind::StorageFull.into(),
        Fault::Io | Fault::Sync => Error::other("injected"),
    }
}

impl Faulty {
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.state().renamed();
        disk
    }

    /// The faults of the next operations, the first last.
    pub(crate) fn plan(&self, faults: Vec<Option<Fault>>) {
        self.state().faults = faults;
    }

    /// Power is lost: of what was not made durable, `choice` says how much is there, and whether its end is garbage.
    pub(crate) fn lose_power(&self, choice: usize) {
        let mut state = self.state();
        let index = choice % state.possible.len();
        state.names = state.possible.swap_remove(index);
        state.possible = vec![state.names.clone()];
        for inode in &mut state.inodes {
            let unwritten = inode.cached.len() - inode.clean;
            let survives = if unwritten == 0 { 0 } else { choice % (unwritten + 1) };
            let mut tail = inode.cached[inode.clean..inode.clean + survives].to_vec();
            if choice.is_multiple_of(3)
                && let Some(last) = tail.last_mut()
            {
                *last ^= 0x55;
            }
            inode.disk.truncate(inode.clean);
            inode.disk.extend(tail);
            inode.cached.clone_from(&inode.disk);
            inode.clean = inode.cached.len();
        }
    }

    /// Changes a file behind everyone's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        change(&mut inode.cached);
        inode.disk.clone_from(&inode.cached);
        inode.clean = inode.cached.len();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Appending for Handle {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.fault();
        let written = match fault {
            None => bytes.len(),
            Some(Fault::NoSpace(room)) => room % (bytes.len() + 1),
            Some(Fault::Io | Fault::Sync) => 0,
        };
        state.inodes[self.inode].cached.extend(&bytes[..written]);
        fault.map_or(Ok(()), |fault| Err(io(fault)))
    }

    fn sync(&mut self) -> std::io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.fault();
        let inode = &mut state.inodes[self.inode];
        let unwritten = inode.cached[inode.clean..].to_vec();
        inode.disk.truncate(inode.clean);
        match fault {
            None => inode.disk.extend(unwritten),
            Some(_) => inode.disk.extend(unwritten.iter().map(|_| 0xee)),
        }
        inode.clean = inode.cached.len();
        fault.map_or(Ok(()), |fault| Err(io(fault)))
    }
}

impl Files for Faulty {
    fn list(&self, folder: &Path) -> std::io::Result<Vec<String>> {
        let state = self.state();
        let names = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn Appending>> {
        let mut state = self.state();
        if let Some(fault) = state.fault() {
            return Err(io(fault));
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_path_buf(), inode);
        state.renamed();
        Ok(Box::new(Handle { disk: self.clone(), inode }))
    }

    fn read(&self, path: &Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
        let state = self.state();
        let inode = state.names.get(path).ok_or(ErrorKind::NotFound)?;
        let bytes = &state.inodes[*inode].cached;
        let begin = usize::try_from(offset).unwrap().min(bytes.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(bytes[begin..begin.saturating_add(length).min(bytes.len())].to_vec())
    }

    fn length(&self, path: &Path) -> std::io::Result<u64> {
        let bytes = self.read(path, 0, u64::MAX)?;
        Ok(u64::try_from(bytes.len()).unwrap())
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.fault() {
            return Err(io(fault));
        }
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        state.renamed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.fault() {
            return Err(io(fault));
        }
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        state.renamed();
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> std::io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = state.fault() {
            return Err(io(fault));
        }
        state.possible = vec![state.names.clone()];
        Ok(())
    }
}
