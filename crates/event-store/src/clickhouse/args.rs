//! Flags by which a process finds ClickHouse.

use std::path::{Path, PathBuf};

use super::{Access, Tls, TlsError};

/// Where ClickHouse is, and who asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClickHouseArgs {
    /// ClickHouse's HTTP interface, as https://clickhouse:8443 or http://clickhouse:8123; database `mcp`.
    #[arg(long = "clickhouse", env = "SALLYPORT_CLICKHOUSE", value_name = "URL")]
    pub url: Option<String>,
    /// ClickHouse's user; by default ClickHouse's own default.
    #[arg(long = "clickhouse-user", value_name = "NAME", requires = "url")]
    pub user: Option<String>,
    /// File of that user's password.
    #[arg(long = "clickhouse-password-file", value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// File of certificates, as PEM, of the authorities that may have issued ClickHouse's; by default those that this machine
    /// trusts.
    #[arg(long = "clickhouse-ca", env = "SALLYPORT_CLICKHOUSE_CA", value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// There is no password.
    #[error(
        "no password for ClickHouse's user `{user}`: {path} {why}; put it into that file, which where a Secret of Kubernetes is \
         mounted is its entry `{entry}`"
    )]
    Password {
        /// Whose.
        user: String,
        /// The file.
        path: String,
        /// Its name without folders.
        entry: String,
        /// What is the matter with it.
        why: String,
    },
    /// The address is none.
    #[error("--clickhouse is `{0}`; it must be like https://clickhouse:8443 or http://127.0.0.1:8123")]
    Url(String),
    /// There is nothing to trust them for.
    #[error(
        "--clickhouse-ca is of no use with `{0}`, which is not encrypted; --clickhouse must begin with https://"
    )]
    Plain(String),
    /// Nobody can be trusted.
    #[error("--clickhouse is encrypted, and {0} (--clickhouse-ca names a file)")]
    Tls(#[from] TlsError),
}

impl ClickHouseArgs {
    /// The same as flags: pairs of a name, without dashes, and a value. None where there is to be no ClickHouse.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags: Vec<_> = self.url.iter().map(|url| ("clickhouse", url.clone())).collect();
        flags.extend(self.user.iter().map(|user| ("clickhouse-user", user.clone())));
        let file = self.password_file.iter();
        flags.extend(file.map(|file| ("clickhouse-password-file", file.display().to_string())));
        flags.extend(self.ca.iter().map(|file| ("clickhouse-ca", file.display().to_string())));
        flags
    }

    /// The access that they describe; none: there is to be no ClickHouse.
    ///
    /// # Errors
    /// The address is none, or the password or the authorities cannot be read.
    pub fn access(&self) -> Result<Option<Access>, ArgsError> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| ArgsError::Url(url.clone()))?;
        let tls = match scheme {
            _ if rest.trim_matches('/').is_empty() => return Err(ArgsError::Url(url.clone())),
            "https" => Some(Tls::trusting(self.ca.as_deref())?),
            "http" if self.ca.is_some() => return Err(ArgsError::Plain(url.clone())),
            "http" => None,
            _ => return Err(ArgsError::Url(url.clone())),
        };
        let password = self.password_file.as_deref().map(|path| self.password(path)).transpose()?;
        Ok(Some(Access { url: url.clone(), user: self.user.clone(), password, tls }))
    }

    fn password(&self, path: &Path) -> Result<String, ArgsError> {
        let missing = |why: String| ArgsError::Password {
            user: self.user.clone().unwrap_or_default(),
            path: path.display().to_string(),
            entry: path.file_name().unwrap_or_default().display().to_string(),
            why,
        };
        let text =
            std::fs::read_to_string(path).map_err(|error| missing(format!("cannot be read ({error})")))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() { Err(missing("is empty".into())) } else { Ok(password.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, password: Option<&Path>) -> ClickHouseArgs {
        ClickHouseArgs {
            url: Some(url.into()),
            user: Some("u".into()),
            password_file: password.map(Into::into),
            ca: None,
        }
    }

    #[test]
    fn a_password_is_a_files_first_line_and_shown_nowhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret word\n").unwrap();
        let access = args("http://h:1", Some(file.path())).access().unwrap().unwrap();
        assert_eq!(access.password.as_deref(), Some("secret word"));
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let refusal = |args: ClickHouseArgs| args.access().unwrap_err().to_string();
        for url in ["", "clickhouse:8123", "tcp://clickhouse:9000", "http://", "https://"] {
            let error = refusal(args(url, None));
            assert!(error.contains("must be like https://"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writer");
        let file = path.as_path();
        let error = refusal(args("http://h", Some(file)));
        assert!(
            error.starts_with("no password for ClickHouse's user `u`") && error.contains("No such file"),
            "{error}"
        );
        assert!(error.ends_with("is its entry `writer`"), "{error}");
        std::fs::write(file, "\n").unwrap();
        assert!(refusal(args("http://h", Some(file))).contains("writer is empty"));
        let with_ca = |url| ClickHouseArgs { ca: Some("/nowhere".into()), ..args(url, Some(file)) };
        assert!(refusal(with_ca("http://h")).contains("is of no use with `http://h`"));
        assert!(refusal(with_ca("https://h")).contains("/nowhere cannot be read"));
        assert_eq!(with_ca("https://h").flags().len(), 4);
        assert_eq!(ClickHouseArgs::default().access().unwrap().map(|access| access.url), None);
    }
}
