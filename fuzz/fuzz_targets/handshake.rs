#![no_main]

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{consts::SIGPIPE, flag};

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(
    init: {
        // Rust's own main ignores SIGPIPE, libFuzzer's does not: a listener that hangs up is no crash.
        flag::register(SIGPIPE, Arc::new(AtomicBool::new(false))).expect("a handler");
    },
    |input: &[u8]| entry::handshake(input)
);
