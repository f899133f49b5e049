//! What must be there before anything starts.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sallyport_audit_proof::{SecretKey, generate_pem};
use sallyport_envoy::{Bootstrap, Node, Service, Watched, authority_file, render, token_file};
use sallyport_runtime::files::{random_hex, write_whole};
use sallyport_runtime::{tls, tokens};
use serde_json::json;

use super::UpArgs;

/// Name of the proxy that `up` runs.
const PROXY: &str = "standalone";

/// What was found.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Keeps another `up` out of the data folder for as long as it is held.
    pub(super) _lock: File,
    pub(super) envoy: PathBuf,
    pub(super) wasm: PathBuf,
}

/// Finds the parts, checks the ports, makes credentials and the bootstrap.
pub(super) fn prepare(args: &UpArgs) -> anyhow::Result<Prepared> {
    anyhow::ensure!(
        args.config.is_dir(),
        "{} is no directory; give the one that holds the manifests with --config",
        args.config.display()
    );
    let envoy = find_envoy(args.envoy.as_deref())?;
    let wasm = find_wasm(args.wasm.as_deref())?;
    let ports = [
        ("listen", args.listen),
        ("api", args.api),
        ("envoy-admin", args.envoy_admin),
        ("xds", args.xds),
        ("ingest", args.ingest),
        ("operator-admin", args.operator_admin),
        ("ingest-admin", args.ingest_admin),
    ];
    let processor = args.clickhouse.url.is_some().then_some(("processor-admin", args.processor_admin));
    let events = args.events.map(|address| ("events", address));
    for (flag, address) in ports.into_iter().chain(processor).chain(events) {
        check_free(flag, address)?;
    }
    if let Some(keys) = &args.source_keys {
        anyhow::ensure!(
            keys.is_file(),
            "{} is not there; --source-keys names the file of keys",
            keys.display()
        );
    }
    let lock = lock(&args.data)?;
    make_files(args).with_context(|| format!("cannot prepare {}", args.data.display()))?;
    Ok(Prepared { _lock: lock, envoy, wasm })
}

fn lock(data: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let taken = || {
        format!(
            "another `sallyport up` uses {}; stop it, or choose another folder with --data",
            data.display()
        )
    };
    file.try_lock().with_context(taken)?;
    Ok(file)
}

fn check_free(flag: &str, address: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(address).map(drop).with_context(|| {
        format!("{address} is taken; stop what listens there, or choose another with --{flag}")
    })
}

fn find_envoy(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        anyhow::ensure!(path.is_file(), "{} is not there; --envoy names Envoy's executable", path.display());
        return Ok(path.to_path_buf());
    }
    let installed = PathBuf::from(".cache/tools/envoy/envoy");
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    std::iter::once(installed)
        .chain(on_path.map(|folder| folder.join("envoy")))
        .find(|path| path.is_file())
        .context("Envoy was not found; run `make setup`, or name it with --envoy")
}

fn find_wasm(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    const NAME: &str = "sallyport_filter.wasm";
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(NAME)));
    let candidates = given.map_or_else(
        || [Some(PathBuf::from("target/wasm").join(NAME)), beside].into_iter().flatten().collect(),
        |path| vec![path.to_path_buf()],
    );
    let found = candidates.iter().find(|path| path.is_file());
    let path = found.context("the filter's module was not found; run `make wasm`, or name it with --wasm")?;
    Ok(std::path::absolute(path)?)
}

fn make_files(args: &UpArgs) -> anyhow::Result<()> {
    let data = &args.data;
    for folder in ["tls", "proxy", "envoy"] {
        std::fs::create_dir_all(data.join(folder))?;
    }
    tls::make_self_signed(&data.join("tls"))?;
    let token = keep_secret::<32>(&data.join("proxy/token"))?;
    let known = json!({ tokens::digest(&token): PROXY }).to_string();
    write_whole(&data.join("tokens.json"), known.as_bytes(), true)?;
    keep_secret::<32>(&data.join("api-key"))?;
    keep_secret::<32>(&data.join("digest-key"))?;
    keep_checkpoint_key(data)?;
    let token = token_file(&absolute(args, "proxy/token")?);
    write_whole(&data.join("envoy/token.json"), token.as_bytes(), false)?;
    let authority = authority_file(&absolute(args, "tls/ca.crt")?);
    write_whole(&data.join("envoy/authority.json"), authority.as_bytes(), false)?;
    write_whole(&data.join("envoy/bootstrap.yaml"), bootstrap(args)?.as_bytes(), false)?;
    Ok(())
}

/// The secret in `path`, made if it is missing.
fn keep_secret<const BYTES: usize>(path: &Path) -> anyhow::Result<String> {
    if let Ok(secret) = std::fs::read_to_string(path)
        && !secret.trim().is_empty()
    {
        return Ok(secret.trim().to_string());
    }
    let secret = random_hex::<BYTES>();
    write_whole(path, secret.as_bytes(), true)?;
    Ok(secret)
}

/// The key that signs checkpoints, made if it is missing, and its public half beside it.
fn keep_checkpoint_key(data: &Path) -> anyhow::Result<()> {
    let path = data.join("checkpoint-key.pem");
    if !path.exists() {
        write_whole(&path, generate_pem()?.as_bytes(), true)?;
    }
    let key = SecretKey::from_pem(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
    write_whole(&data.join("checkpoint-key.pub.pem"), key.public().to_pem().as_bytes(), false)?;
    Ok(())
}

fn absolute(args: &UpArgs, name: &str) -> anyhow::Result<String> {
    Ok(std::path::absolute(args.data.join(name))?.display().to_string())
}

fn bootstrap(args: &UpArgs) -> anyhow::Result<String> {
    let service = |address: &SocketAddr| Service {
        host: address.ip().to_string(),
        port: address.port(),
        server_name: tls::SERVER_NAME.into(),
    };
    Ok(render(&Bootstrap {
        node: Some(Node { id: PROXY.into(), cluster: PROXY.into() }),
        admin: args.envoy_admin,
        control_plane: service(&args.xds),
        ingest: service(&args.ingest),
        authority: Watched {
            secret: absolute(args, "envoy/authority.json")?,
            folder: absolute(args, "tls")?,
        },
        token: Watched { secret: absolute(args, "envoy/token.json")?, folder: absolute(args, "proxy")? },
        lifecycle: None,
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        up: UpArgs,
    }

    fn args(data: &Path) -> UpArgs {
        let data = data.display().to_string();
        Command::parse_from(["up", "--config", ".", "--data", &data, "--xds", "127.0.0.1:7"]).up
    }

    #[test]
    fn files_are_made_once_and_secrets_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let args = args(&folder.path().join("data"));
        make_files(&args).unwrap();
        let read = |name: &str| std::fs::read_to_string(args.data.join(name)).unwrap();
        let (token, key) = (read("proxy/token"), read("api-key"));
        let public = read("checkpoint-key.pub.pem");
        assert!(tokens::Tokens::open(&args.data.join("tokens.json")).unwrap().proxy(&token).is_some());
        make_files(&args).unwrap();
        assert_eq!((read("proxy/token"), read("api-key")), (token, key));
        assert_eq!(read("checkpoint-key.pub.pem"), public);
    }

    #[test]
    fn the_bootstrap_names_what_the_flags_name() {
        let folder = tempfile::tempdir().unwrap();
        let text = bootstrap(&args(folder.path())).unwrap();
        assert!(text.contains("address: \"127.0.0.1\", port_value: 7 "), "{text}");
        assert!(!text.contains("lifecycle"), "{text}");
    }

    #[test]
    fn a_taken_port_and_a_missing_envoy_are_told_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = format!("{:#}", check_free("listen", taken.local_addr().unwrap()).unwrap_err());
        assert!(error.contains("--listen"), "{error}");
        let error = format!("{:#}", find_envoy(Some(Path::new("/nowhere/envoy"))).unwrap_err());
        assert!(error.contains("--envoy"), "{error}");
    }

    #[test]
    fn a_data_folder_serves_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_err());
        drop(first);
        assert!(lock(folder.path()).is_ok());
    }
}
