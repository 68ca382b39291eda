//! Targets for tests: files in memory, and a medium that fills.

use crate::{Error, ErrorKind, Reference, Resolver, Result, storage::ImageFile, target::Target};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A folder in memory: a target for images of several files, and the resolver that reads them.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Files {
    /// A target that makes the file `name`, and others beside it.
    pub fn target(&self, name: &str) -> impl Target + use<> {
        self.file(name, |_| ());
        FileInMemory {
            name: name.to_owned(),
            files: self.clone(),
        }
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// What the file `name` holds; nothing if there is none.
    pub fn get(&self, name: &str) -> Vec<u8> {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    fn file<R>(&self, name: &str, work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        work(self.lock().entry(name.to_owned()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for Files {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        let name = match reference {
            Reference::Extent(name) => name.to_str().unwrap_or_default(),
            Reference::Parent(_) | Reference::Device(_) => "",
        };
        if !self.lock().contains_key(name) {
            let detail = format!("'{name}' is not in memory");
            return Err(Error::new(ErrorKind::Reference, "file", detail).path(from.path()));
        }
        Ok(vec![ImageFile::from_storage(name, self.get(name))?])
    }
}

struct FileInMemory {
    name: String,
    files: Files,
}

impl Target for FileInMemory {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.files.file(&self.name, |f| f.write_at(pos, bytes))
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.files.file(&self.name, |f| f.set_size(size))
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        if self.files.names().iter().any(|n| n == name) {
            let detail = format!("'{name}' exists already");
            return Err(Error::new(ErrorKind::Usage, "output", detail));
        }
        Ok(Box::new(self.files.target(name)))
    }
}

/// A target that fails after a number of writes, in whatever files: a disk that fills.
pub struct Failing<T> {
    inner: T,
    left: Arc<AtomicUsize>,
}

impl<T: Target> Failing<T> {
    /// Passes the first `left` writes on to `inner` and refuses all others.
    pub fn new(inner: T, left: usize) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicUsize::new(left)),
        }
    }

    fn step(&mut self) -> Result<()> {
        let left = self.left.load(Ordering::Relaxed).checked_sub(1);
        let left =
            left.ok_or_else(|| Error::io("write", std::io::ErrorKind::StorageFull.into()))?;
        self.left.store(left, Ordering::Relaxed);
        Ok(())
    }
}

impl<T: Target> Target for Failing<T> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.step()?;
        self.inner.write_at(pos, bytes)
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.step()?;
        self.inner.set_size(size)
    }
    fn beside(&mut self, name: &str) -> Result<Box<dyn Target>> {
        self.step()?;
        Ok(Box::new(Failing {
            inner: self.inner.beside(name)?,
            left: self.left.clone(),
        }))
    }
}
