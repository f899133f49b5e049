//! Spans to a collector, by OTLP over gRPC. The SDK reads the other standard variables itself (headers, timeout, sampler,
//! resource attributes).

use std::path::PathBuf;

use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::transport::{Certificate, ClientTlsConfig};

/// Variables that name a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Variable with the file of the authority that an `https` collector's certificate is of.
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
/// Variable that switches everything off.
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The collector's authority cannot be read.
    #[error("cannot read {path}, which {CERTIFICATE} names")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Authorities of the system are not looked for.
    #[error("the collector's address is `{0}`; for https, name the authority's file in {CERTIFICATE}")]
    NoCertificate(String),
    /// The exporter does not accept its settings.
    #[error("traces cannot be exported")]
    Exporter(#[from] ExporterBuildError),
}

/// The exporter that the variables ask for; none: no collector is named.
pub(super) fn provider(
    component: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<SdkTracerProvider>, ExportError> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_disabled = given(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let Some(endpoint) = ENDPOINTS.into_iter().find_map(given).filter(|_| !is_disabled) else {
        return Ok(None);
    };
    let mut exporter = SpanExporter::builder().with_tonic();
    if endpoint.starts_with("https:") {
        let path = given(CERTIFICATE).map(PathBuf::from).ok_or(ExportError::NoCertificate(endpoint))?;
        let pem = std::fs::read(&path).map_err(|source| ExportError::Certificate { path, source })?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        exporter = exporter.with_tls_config(tls);
    }
    let resource = Resource::builder().with_service_name(format!("sallyport-{component}")).build();
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter.build()?).build();
    Ok(Some(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Result<Option<SdkTracerProvider>, ExportError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
        };
        provider("test", find)
    }

    #[test]
    fn nothing_is_exported_unless_a_collector_is_named() {
        assert!(asked(&[]).unwrap().is_none());
        assert!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().is_none());
        let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_SDK_DISABLED", "true")];
        assert!(asked(&off).unwrap().is_none());
    }

    #[test]
    fn a_collector_by_https_needs_an_authority() {
        let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4317");
        assert!(matches!(asked(&[https]), Err(ExportError::NoCertificate(_))));
        let gone = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem");
        assert!(matches!(asked(&[https, gone]), Err(ExportError::Certificate { .. })));
    }
}
