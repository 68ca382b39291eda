//! VHD.
use crate::{
    Format, ImageWriter, Layer, Result, Subformat,
    format::{Context, Spec},
    storage::ImageFile,
    target::Target,
};

/// The VHD format.
#[derive(Clone, Copy, Debug)]
pub struct Vhd;

impl Format for Vhd {
    fn name(&self) -> &'static str {
        "vhd"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["vhd", "vpc"]
    }
    fn subformats(&self) -> &'static [Subformat] {
        &[
            Subformat {
                name: "dynamic",
                streams: false,
                child: false,
            },
            Subformat {
                name: "fixed",
                streams: true,
                child: false,
            },
            Subformat {
                name: "differencing",
                streams: false,
                child: true,
            },
        ]
    }
    fn probe(&self, _file: &ImageFile) -> Result<bool> {
        Ok(false)
    }
    fn open(&self, _file: ImageFile, _context: &Context<'_>) -> Result<Layer> {
        Err(crate::Error::new(
            crate::ErrorKind::Unsupported,
            "vhd",
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
            "vhd",
            "stub",
        ))
    }
}
