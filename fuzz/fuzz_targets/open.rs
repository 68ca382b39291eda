//! Any bytes, opened as every format: no panic, no more memory or time than the caps allow, and a
//! map that holds. And checked: what cannot be opened is not called whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdisk_core::{Deny, FORMATS};

fuzz_target!(|bytes: &[u8]| {
    for &format in FORMATS {
        let opened = vdisk_fuzz::open(format, bytes.to_vec(), &Deny);
        vdisk_fuzz::check(format, bytes.to_vec(), &Deny, opened.is_ok());
        match opened {
            Ok(layer) => vdisk_fuzz::look_at(&layer),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
