//! Flags by which a process finds ClickHouse.

use std::path::{Path, PathBuf};

use super::Access;

/// Where ClickHouse is, and who asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClickHouseArgs {
    /// ClickHouse's HTTP interface, as http://clickhouse:8123; database `mcp`.
    #[arg(long = "clickhouse", env = "SALLYPORT_CLICKHOUSE", value_name = "URL")]
    pub url: Option<String>,
    /// ClickHouse's user; by default ClickHouse's own default.
    #[arg(long = "clickhouse-user", value_name = "NAME", requires = "url")]
    pub user: Option<String>,
    /// File of that user's password.
    #[arg(long = "clickhouse-password-file", value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// The password cannot be read.
    #[error("--clickhouse-password-file {path} cannot be read: {source}")]
    Password {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address is none.
    #[error("--clickhouse is `{0}`; it must be like http://127.0.0.1:8123")]
    Url(String),
}

impl ClickHouseArgs {
    /// The same as flags: pairs of a name, without dashes, and a value. None where there is to be no ClickHouse.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags: Vec<_> = self.url.iter().map(|url| ("clickhouse", url.clone())).collect();
        flags.extend(self.user.iter().map(|user| ("clickhouse-user", user.clone())));
        let file = self.password_file.iter();
        flags.extend(file.map(|file| ("clickhouse-password-file", file.display().to_string())));
        flags
    }

    /// The access that they describe; none: there is to be no ClickHouse.
    ///
    /// # Errors
    /// The address is none, or the password cannot be read.
    pub fn access(&self) -> Result<Option<Access>, ArgsError> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        if url.strip_prefix("http://").is_none_or(|rest| rest.trim_matches('/').is_empty()) {
            return Err(ArgsError::Url(url.clone()));
        }
        let password = self.password_file.as_deref().map(read).transpose()?;
        Ok(Some(Access { url: url.clone(), user: self.user.clone(), password }))
    }
}

fn read(path: &Path) -> Result<String, ArgsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ArgsError::Password { path: path.display().to_string(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, password: Option<&Path>) -> ClickHouseArgs {
        ClickHouseArgs {
            url: Some(url.into()),
            user: Some("u".into()),
            password_file: password.map(Into::into),
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
        for url in ["", "clickhouse:8123", "https://clickhouse:8443", "http://"] {
            let error = args(url, None).access().unwrap_err().to_string();
            assert!(error.contains("must be like http://"), "{error}");
        }
        let error = args("http://h", Some(Path::new("/nowhere"))).access().unwrap_err().to_string();
        assert!(error.contains("/nowhere cannot be read"), "{error}");
        assert_eq!(args("http://h", Some(Path::new("f"))).flags().len(), 3);
        assert_eq!(ClickHouseArgs::default().access().unwrap().map(|access| access.url), None);
    }
}
