//! Who is trusted to vouch for a sink: the machine's authorities, and those given with the drain.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::sink::SinkError;

/// Most bytes of the certificates given with a drain.
const CA_BYTES_MAX: usize = 256 * 1024;

/// Reads certificates of authorities, PEM.
///
/// # Errors
/// What is wrong with them.
pub fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let wrong = |reason: String| SinkError::Authorities { reason };
    if pem.len() > CA_BYTES_MAX {
        return Err(wrong(format!("they are longer than {} KiB", CA_BYTES_MAX / 1024)));
    }
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there is none in the text".to_owned()));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(certificates)
}

/// Checks certificates against the machine's bundle (`SSL_CERT_FILE` where it is set) and `ca`.
///
/// # Errors
/// The drain's certificates are wrong; there is nobody to trust.
pub(super) fn client(ca: Option<&str>) -> Result<Arc<ClientConfig>, SinkError> {
    let mut store = RootCertStore::empty();
    // A machine may have certificates that are none; the others count.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = ca {
        store.add_parsable_certificates(authorities(pem)?);
    }
    if store.is_empty() {
        let reason = "this machine has none; install ca-certificates".to_owned();
        return Err(SinkError::Authorities { reason });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SinkError::Authorities { reason: error.to_string() })?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_are_none_are_refused() {
        for bad in [
            "",
            "swordfish",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(authorities(bad).is_err(), "{bad}");
        }
        let good = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        assert_eq!(authorities(&good.cert.pem()).unwrap().len(), 1);
    }
}
