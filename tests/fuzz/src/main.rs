//! The coverage-guided run of one target, named by `FUZZ_TARGET`. Built and started by `.ci/fuzz`.
#![no_main]

use std::sync::OnceLock;

#[expect(clippy::disallowed_methods, reason = "a tool, started by a script")]
fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = fuzz::TARGETS.iter().find(|(known, _)| *known == name);
        found.map_or_else(|| std::process::abort(), |(_, run)| *run)
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target()(bytes));
