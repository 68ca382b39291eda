//! To be.
/// To be.
pub struct Reader;
