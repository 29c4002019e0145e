//! The certificates of the backend. AWS's endpoints use TLS, and the first handshake is a good part of a cold start.
//!
//! Each run has its own certificate authority. The file that `SSL_CERT_FILE` names for a function has the authority's certificate
//! and those of Amazon, so that the function reads as many roots as it has built in for AWS, plus one.

use crate::error::Error;
use crate::http::BoxError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The host name in the backend's certificate. A function resolves it, as on AWS.
pub(crate) const HOST: &str = "localhost";

/// The roots that a function has built in.
const AMAZON_ROOTS: &str = include_str!("../../../crates/aws/src/amazon-roots.pem");

/// The certificate authority of a run. Like AWS's, it has a root and an intermediate that signs for the endpoints, all with RSA
/// and 2,048 bits. <https://www.amazontrust.com/repository/>
pub(crate) struct Authority {
    /// The backend's side of a connection.
    pub(crate) acceptor: TlsAcceptor,
    /// The file of the certificates that functions trust. It is removed when this is dropped.
    pub(crate) roots: PathBuf,
}

impl Authority {
    pub(crate) fn make() -> Result<Self, Error> {
        let (root, server) = certificates().map_err(Error::cannot("make certificates for the backend"))?;
        let roots = std::env::temp_dir().join(format!("bench-roots-{}.pem", std::process::id()));
        let written = std::fs::write(&roots, format!("{AMAZON_ROOTS}{root}"));
        written.map_err(Error::cannot(format!("write {}", roots.display())))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), roots })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It holds no secret, and does no harm if it stays.
        let _ = std::fs::remove_file(&self.roots);
    }
}

/// The root in PEM, and the backend's configuration with its certificate and that of the intermediate that signed it.
fn certificates() -> Result<(String, ServerConfig), BoxError> {
    let root = CertifiedIssuer::self_signed(authority("root"), key()?)?;
    let intermediate = CertifiedIssuer::signed_by(authority("intermediate"), key()?, &root)?;
    let key = key()?;
    let backend = named("backend", CertificateParams::new([HOST.to_owned()])?).signed_by(&key, &intermediate)?;
    let chain = vec![backend.into(), intermediate.der().clone()];
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from(key))?;
    Ok((root.pem(), server))
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name, CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Certificates must have different names.
fn named(name: &str, mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
