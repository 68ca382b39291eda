//! Any bytes, opened as every format: no panic, no more memory or time than the caps allow, and a
//! map that holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdisk_core::{Deny, FORMATS};

fuzz_target!(|bytes: &[u8]| {
    for &format in FORMATS {
        match vdisk_fuzz::open(format, bytes.to_vec(), &Deny) {
            Ok(layer) => vdisk_fuzz::look_at(&layer),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
