//! Changing what an image says about itself, in place: a plan first, then patches.
//!
//! Contents are never touched. A plan says what will change and carries the patches that do it, so
//! that it can be shown, applied with a backup, and undone.

use crate::{
    Error, ErrorKind, Ids, OpenOptions, Result, format::ParentSpec, open::proceed, patch::Patch,
    storage::ImageFile,
};
use std::{path::Path, str::FromStr};

/// Settings to change; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Disk adapter that a VMDK descriptor names.
    pub adapter: Option<String>,
    /// Unique ID of the disk.
    pub uuid: Option<NewId>,
    /// Name of the parent that a VMDK child records.
    pub parent_hint: Option<String>,
    /// Virtual hardware version that a VMDK descriptor names.
    pub hardware_version: Option<u32>,
    /// The parent that a child records from now on: its identity, its names and its time. The child
    /// keeps being one; contents do not change.
    pub parent: Option<ParentSpec>,
    /// A new identity for children to go by: CID, unique ID or data write GUID.
    pub identity: Option<Ids>,
}

/// A unique ID to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// A fresh one.
    Random,
    /// This one, in the order in which it is written.
    Given([u8; 16]),
}

/// `random`, or 32 hexadecimal digits with any blanks, dashes and braces.
///
/// ```
/// use vdisk_core::edit::NewId;
/// let windows: NewId = "{6000C291-0102-0304-0506-0708090A0B0C}".parse()?;
/// assert_eq!(windows, "60 00 C2 91 01 02 03 04-05 06 07 08 09 0a 0b 0c".parse()?);
/// assert!("60 00 C2".parse::<NewId>().is_err());
/// # Ok::<(), vdisk_core::Error>(())
/// ```
impl FromStr for NewId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "random" {
            return Ok(Self::Random);
        }
        let digits: String = text
            .chars()
            .filter(|c| !matches!(c, ' ' | '-' | '{' | '}'))
            .collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if digits.len() == 32 && !digits.starts_with('+') => {
                Ok(Self::Given(number.to_be_bytes()))
            }
            _ => {
                let detail = format!("'{text}' is neither 'random' nor 32 hexadecimal digits");
                Err(Error::new(ErrorKind::Usage, "UUID", detail))
            }
        }
    }
}

/// What an [`Edit`] comes to for one image.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The settings that change; empty if all are as wanted already.
    pub changes: Vec<Changed>,
    /// How, for [`patch::apply`](crate::patch::apply).
    pub patches: Vec<Patch>,
    /// What a user should know before, a sentence each.
    pub warnings: Vec<String>,
}

/// A setting that changes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Changed {
    /// Its name, in the format's own words.
    pub setting: &'static str,
    /// What it was; `None` if it was not recorded.
    pub from: Option<String>,
    /// What it becomes.
    pub to: String,
}

/// Plans `edit` for the image at `path`; nothing is written. Also says which format it is.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) for values that the format cannot hold, and
/// [`Unsupported`](ErrorKind::Unsupported) for settings it has not.
///
/// ```no_run
/// use vdisk_core::{Deny, OpenOptions, edit::{self, Edit}, patch};
/// let edit = Edit { adapter: Some("pvscsi".to_owned()), ..Edit::default() };
/// let (_, plan) = edit::plan("disk.vmdk".as_ref(), &OpenOptions::new(&Deny), &edit)?;
/// let backups = patch::apply(&plan.patches)?;
/// # Ok::<(), vdisk_core::Error>(())
/// ```
pub fn plan(path: &Path, options: &OpenOptions<'_>, edit: &Edit) -> Result<(&'static str, Plan)> {
    let file = ImageFile::open(path, options.access)?;
    let (format, _) = proceed(&file, options)?;
    let plan = format.edit(&file, edit).map_err(|e| e.path(path))?;
    Ok((format.name(), plan))
}

/// The error for a setting that `format` does not have, if `wanted` says that it is to be set.
pub(crate) fn has_not(format: &str, setting: &'static str, wanted: bool) -> Result<()> {
    if !wanted {
        return Ok(());
    }
    let detail = format!("a {format} image has no such setting that can be changed");
    Err(Error::new(ErrorKind::Unsupported, setting, detail))
}
