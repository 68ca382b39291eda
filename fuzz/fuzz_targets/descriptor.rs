//! Any text as a VMDK descriptor, with extents that always exist.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdisk_core::{Reference, Resolver, Result, format, storage::ImageFile};

/// Finds every extent and no parent: a small file of zeros, whatever it is called.
struct Zeros;

impl Resolver for Zeros {
    fn find(&self, from: &ImageFile, reference: &Reference<'_>) -> Result<Vec<ImageFile>> {
        match reference {
            Reference::Extent(name) => Ok(vec![ImageFile::from_storage(name, vec![0; 4096])?]),
            Reference::Parent(_) | Reference::Device(_) => vdisk_core::Deny.find(from, reference),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(vmdk) = format::named("vmdk") else {
        return;
    };
    let whole = [b"# Disk DescriptorFile\nversion=1\n".as_slice(), bytes].concat();
    for text in [bytes.to_vec(), whole] {
        if let Ok(layer) = vdisk_fuzz::open(vmdk, text, &Zeros) {
            vdisk_fuzz::look_at(&layer);
        }
    }
});
