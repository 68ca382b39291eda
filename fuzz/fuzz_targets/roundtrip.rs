//! What is written is read, in every format, alone and as a child.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdisk_fuzz::{Plan, contents, look_at};

fuzz_target!(|plan: Plan| {
    let bytes = plan.base();
    let base = plan.base_layer(&bytes);
    assert!(contents(&base) == bytes, "the base reads differently");
    look_at(&base);
    if let Some((chain, changed)) = plan.child_chain(base, &bytes) {
        assert!(contents(&chain) == changed, "the child reads differently");
        look_at(&chain);
    }
});
