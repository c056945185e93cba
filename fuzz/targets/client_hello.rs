#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| goproxy::fuzz::client_hello(bytes));
