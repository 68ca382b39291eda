//! To be.
/// To be.
pub struct Writer;
