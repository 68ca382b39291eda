//! One error type: a small stable kind for code, one sentence with the place for people, and the cause.
//!
//! Callers decide by [`ErrorKind`]; the sentence may change between releases. Names that come from
//! images are escaped when shown, so that they cannot drive a terminal.

use std::{
    borrow::Cow,
    error, fmt, io,
    path::{Path, PathBuf},
};

/// Shorthand used by every fallible function of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or a write.
    Io,
    /// The file is not of the format asked for, or of none that is known.
    WrongFormat,
    /// The image contradicts itself or its specification.
    Corrupt,
    /// A valid image, or a valid wish, that needs a feature not implemented here.
    Unsupported,
    /// A position or length outside the disk.
    OutOfRange,
    /// A parent or extent file is missing, or is not the one recorded.
    Reference,
    /// A parent or extent file exists, but the caller's policy does not let the image open it.
    Policy,
    /// Layers disagree, and nothing says who is right.
    Conflict,
    /// The request makes no sense for these images: an existing output, an odd size, layers that do not fit.
    Usage,
    /// A number in the image is larger than this crate accepts.
    Limit,
    /// The caller asked to stop.
    Cancelled,
}

/// Why an operation failed, and where. One pointer wide.
///
/// ```
/// use vdisk_core::{Error, ErrorKind};
/// let error = Error::corrupt("grain table 7, entry 12", "points past the end of the file")
///     .at(0x300000)
///     .path("user.vmdk");
/// assert_eq!(error.kind(), ErrorKind::Corrupt);
/// assert_eq!(
///     error.to_string(),
///     "user.vmdk: grain table 7, entry 12: points past the end of the file (at file offset 0x300000)"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{}", self.sentence())]
struct Inner {
    kind: ErrorKind,
    part: Cow<'static, str>,
    detail: String,
    at: Option<u64>,
    path: Option<PathBuf>,
    #[source]
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` about `part` of an image ("grain table 7").
    pub fn new(
        kind: ErrorKind,
        part: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            part: part.into(),
            detail: detail.into(),
            at: None,
            path: None,
            source: None,
        }))
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(part: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, part, detail)
    }

    /// An operating system error met while doing `part` ("read", "create").
    pub fn io(part: &'static str, error: io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file ends too early".to_owned(),
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            // "No space left on device (os error 28)": the number helps nobody.
            _ => match error.to_string().split_once(" (os error") {
                Some((sentence, _)) => sentence.to_owned(),
                None => error.to_string(),
            },
        };
        Self::new(ErrorKind::Io, part, detail).because(error)
    }

    /// Adds the file offset of the offending bytes, unless one is set already.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.at.get_or_insert(offset);
        self
    }

    /// Adds the file concerned, unless one is set already.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Adds the underlying cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind, for code that decides.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The part of the image or of the work that is concerned.
    pub fn part(&self) -> &str {
        &self.0.part
    }

    /// What is wrong with it, for sentences that name part and file in another way.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The offset of the offending bytes in the file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.at
    }

    /// The file concerned, where one is known.
    pub fn file(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl Inner {
    fn sentence(&self) -> String {
        let mut text = String::new();
        if let Some(path) = &self.path {
            text.push_str(&printable(&path.display().to_string()));
            text.push_str(": ");
        }
        text.push_str(&printable(&self.part));
        text.push_str(": ");
        text.push_str(&printable(&self.detail));
        if let Some(at) = self.at {
            text.push_str(&format!(" (at file offset {at:#x})"));
        }
        text
    }
}

/// `text` with control characters escaped, for showing names that come from images.
///
/// ```
/// assert_eq!(vdisk_core::printable("a\u{1b}[31m.vmdk"), "a\\u{1b}[31m.vmdk");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    let hostile =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Names the file in an error that does not name one yet.
pub(crate) trait InFile<T> {
    fn in_file(self, path: &Path) -> Result<T>;
}

impl<T> InFile<T> for Result<T> {
    fn in_file(self, path: &Path) -> Result<T> {
        self.map_err(|e| e.path(path))
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "io",
            Self::WrongFormat => "wrong-format",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::OutOfRange => "out-of-range",
            Self::Reference => "reference",
            Self::Policy => "policy",
            Self::Conflict => "conflict",
            Self::Usage => "usage",
            Self::Limit => "limit",
            Self::Cancelled => "cancelled",
        })
    }
}
