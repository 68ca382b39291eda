//! Exit codes: what a script learns without reading anything. One list, so that all verbs agree.

use std::process::ExitCode;
use vdisk_core::ErrorKind;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the same.
    Done = 0,
    /// Differs, or findings.
    Differs = 1,
    /// Wrong usage, or an error.
    Failed = 2,
    /// Policy, conflict or guarantee not met.
    Refused = 3,
    /// A corrupt image.
    Corrupt = 4,
    /// Stopped by a signal.
    Stopped = 130,
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Corrupt => Self::Corrupt,
            ErrorKind::Policy | ErrorKind::Conflict => Self::Refused,
            ErrorKind::Cancelled => Self::Stopped,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
