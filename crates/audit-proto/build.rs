//! Generates the messages and, with the feature `grpc`, the service; `protox` parses the file, so no `protoc` is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["audit", "proof", "record"].map(|name| format!("sallyport/audit/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    if std::env::var_os("CARGO_FEATURE_GRPC").is_some() {
        // For reflection: descriptors as `protoc` would write them.
        let path = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
        std::fs::write(path, prost::Message::encode_to_vec(&descriptors))?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    } else {
        prost_build::Config::new().compile_fds(descriptors)?;
    }
    Ok(())
}
