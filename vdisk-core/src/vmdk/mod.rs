//! VMDK.
use crate::{
    Format, ImageWriter, Layer, Result, Subformat,
    format::{Context, Spec},
    storage::ImageFile,
    target::Target,
};

/// The VMDK format.
#[derive(Clone, Copy, Debug)]
pub struct Vmdk;

impl Format for Vmdk {
    fn name(&self) -> &'static str {
        "vmdk"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["vmdk"]
    }
    fn subformats(&self) -> &'static [Subformat] {
        &[
            Subformat {
                name: "monolithicSparse",
                streams: false,
                child: true,
            },
            Subformat {
                name: "streamOptimized",
                streams: true,
                child: false,
            },
        ]
    }
    fn probe(&self, _file: &ImageFile) -> Result<bool> {
        Ok(false)
    }
    fn open(&self, _file: ImageFile, _context: &Context<'_>) -> Result<Layer> {
        Err(crate::Error::new(
            crate::ErrorKind::Unsupported,
            "vmdk",
            "stub",
        ))
    }
    fn create<'a>(
        &self,
        _target: &'a mut dyn Target,
        _spec: &Spec<'_>,
    ) -> Result<Box<dyn ImageWriter + 'a>> {
        Err(crate::Error::new(
            crate::ErrorKind::Unsupported,
            "vmdk",
            "stub",
        ))
    }
}
