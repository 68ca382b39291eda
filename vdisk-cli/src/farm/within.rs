//! Which files the images of a farm may refer to: besides those of any image, what lies in the folders on
//! the command line.
//!
//! Who wants a report on a folder means all of it: clones lie in folders below their base, or
//! beside its own.

use crate::args::InputArgs;
use std::path::PathBuf;
use vdisk_core::{
    Error, ErrorKind, FileResolver, ParentRef, Reference, Resolver, Result, storage::ImageFile,
};

/// Follows into the folders on the command line what may otherwise not be followed.
///
/// They are not looked through for a name that leads nowhere: a namesake there is another file.
pub(super) struct Within {
    own: FileResolver,
    /// With the folders.
    wide: FileResolver,
}

impl Within {
    pub(super) fn new(folders: &[PathBuf], input: &InputArgs) -> Self {
        let own = input.resolver();
        let mut wide = own.clone();
        wide.allowed.extend_from_slice(folders);
        Self { own, wide }
    }
}

impl Resolver for Within {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        match self.own.find(from, reference) {
            Err(error) if error.kind() == ErrorKind::Policy => self.wide.find(from, reference),
            Ok(found) => match reference {
                // What was found has only the file name of the parent.
                Reference::Parent(parent) if self.own.refusal(from, parent).is_some() => {
                    self.wide.find(from, reference)
                }
                _ => Ok(found),
            },
            Err(error) => Err(error),
        }
    }

    fn refusal(&self, from: &ImageFile, parent: &ParentRef) -> Option<Error> {
        self.wide.refusal(from, parent)
    }
}
