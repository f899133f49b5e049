#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> () {
    sallyport_fuzz::message(bytes);
});
