//! The command `sallyport`.
fn main() {}
