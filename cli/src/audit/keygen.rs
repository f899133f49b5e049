//! `sallyport audit keygen`.

use std::path::PathBuf;

use anyhow::Context;
use sallyport_audit_proof::{SecretKey, generate_pem};
use sallyport_runtime::files::write_whole;

use crate::commands::say;

#[derive(Debug, clap::Args)]
pub(crate) struct KeygenArgs {
    /// File of the private key, which only the ingest needs. Refused where a file is.
    #[arg(long, default_value = "checkpoint-key.pem")]
    key: PathBuf,
    /// File of the public key, for everybody who verifies.
    #[arg(long, default_value = "checkpoint-key.pub.pem")]
    public_key: PathBuf,
}

pub(crate) fn run(args: &KeygenArgs) -> anyhow::Result<()> {
    let KeygenArgs { key, public_key } = args;
    for path in [key, public_key] {
        anyhow::ensure!(!path.exists(), "{} is there already; a key is never written over", path.display());
    }
    let pem = generate_pem()?;
    let public = SecretKey::from_pem(pem.as_bytes())?.public().to_pem();
    write_whole(key, pem.as_bytes(), true).with_context(|| format!("cannot write {}", key.display()))?;
    write_whole(public_key, public.as_bytes(), false)
        .with_context(|| format!("cannot write {}", public_key.display()))?;
    say(&format!("{}   private: for `sallyport ingest --checkpoint-key`", key.display()));
    say(&format!("{}   public: for `sallyport audit verify --public-key`", public_key.display()));
    Ok(())
}
