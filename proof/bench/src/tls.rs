//! Who the backend says it is: AWS's endpoints speak TLS, and the first handshake is a good part of a cold start.
//!
//! A certificate authority is made for the run. Its certificate and those of Amazon are what `SSL_CERT_FILE` names for a function,
//! so that it reads as many roots as it has built in for AWS, and one.

use crate::error::Error;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that the backend's certificate is for. A function looks it up, as it does on AWS.
pub(crate) const HOST: &str = "localhost";

/// The roots that a function has built in.
const AMAZON_ROOTS: &str = include_str!("../../../crates/aws/src/amazon-roots.pem");

/// The certificate authority of a run, as AWS's are: a root, and under it another that signs for the endpoints, all by RSA with 2,048
/// bits. <https://www.amazontrust.com/repository/>
pub(crate) struct Authority {
    /// The backend's side of a connection.
    pub(crate) acceptor: TlsAcceptor,
    /// The certificates that functions trust. The file goes with its owner.
    roots: PathBuf,
}

impl Authority {
    /// Makes it. Functions also trust the certificates in `others`.
    pub(crate) fn make(others: Option<&Path>) -> Result<Self, Error> {
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|cause| Error::File { path: path.to_owned(), cause });
        let others = others.map(read).transpose()?.unwrap_or_default();
        let unusable = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let Certificates { root, chain, key } = certificates().map_err(|error| unusable(&error))?;
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(&error))?;
        let roots = std::env::temp_dir().join(format!("bench-roots-{}.pem", std::process::id()));
        std::fs::write(&roots, format!("{AMAZON_ROOTS}{root}{others}"))
            .map_err(|cause| Error::File { path: roots.clone(), cause })?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), roots })
    }

    /// The file of the certificates that functions trust.
    pub(crate) fn roots(&self) -> &Path {
        &self.roots
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It holds no secret, and does no harm where it stays.
        let _ = std::fs::remove_file(&self.roots);
    }
}

struct Certificates {
    /// In PEM.
    root: String,
    /// The backend's, and the one that signed it.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn certificates() -> Result<Certificates, rcgen::Error> {
    let root = CertifiedIssuer::self_signed(authority("root"), key()?)?;
    let intermediate = CertifiedIssuer::signed_by(authority("intermediate"), key()?, &root)?;
    let key = key()?;
    let backend = named("backend", CertificateParams::new([HOST.to_owned()])?).signed_by(&key, &intermediate)?;
    Ok(Certificates {
        root: root.pem(),
        chain: vec![backend.into(), intermediate.der().clone()],
        key: PrivateKeyDer::from(key),
    })
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name, CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Certificates are told apart by their names.
fn named(name: &str, mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
