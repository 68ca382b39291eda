#![doc = include_str!("tour.md")]

mod cache;
pub mod chain;
pub mod check;
mod claims;
pub mod disk;
pub mod edit;
mod error;
pub mod format;
mod identity;
pub mod image;
pub mod job;
pub mod limits;
mod lock;
mod mmap;
pub mod open;
pub mod ops;
pub mod ova;
pub mod patch;
pub mod profile;
pub mod qcow2;
pub mod raw;
mod resolve;
pub mod storage;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transaction;
pub mod units;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
mod windows_path;
mod zeros;

pub use chain::{Chain, Layer};
pub use disk::{Disk, Extent, Kind};
pub(crate) use error::InFile;
pub use error::{Error, ErrorKind, Result, printable};
pub use format::{FORMATS, Format, ImageWriter, Packing, Subformat};
pub use identity::{Identity, Ids, ParentRef};
pub use image::{Image, Layout, Place, Run};
pub use job::{Job, Watch};
pub use open::{OpenOptions, open, open_layer};
pub use resolve::{Deny, FileResolver, Reference, Resolver};
pub use zeros::is_zero;
