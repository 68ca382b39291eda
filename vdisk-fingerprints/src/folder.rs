//! To be.
/// To be.
pub struct Folder;
