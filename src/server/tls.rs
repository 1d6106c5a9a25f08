//! TLS: certificates and keys from files, made into what a connection is served with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

/// The port that IANA has registered for AMQP with TLS.
const PORT: u16 = 5671;

/// How the server speaks TLS, and where.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Addresses to listen on. The registered port is 5671.
    pub listen: Vec<SocketAddr>,
    /// A PEM file with the server's certificate, followed by those between it and a root.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
    /// Whether clients have to show certificates, and which.
    pub clients: ClientCertificates,
}

/// What is asked of clients besides their login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    NotAsked,
    /// A certificate that one of the roots in this PEM file vouches for, if the client has one.
    Optional(PathBuf),
    /// A certificate that one of the roots in this PEM file vouches for.
    Required(PathBuf),
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not PEM, or broken.
    #[error("{} is not a PEM file as it should be: {error}", .file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// A file has no certificate in it.
    #[error("there is no certificate in {}: it should have a section BEGIN CERTIFICATE", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no private key in it.
    #[error("there is no private key in {}: it should have a section BEGIN PRIVATE KEY; encrypted keys cannot be read", .0.display())]
    NoKey(PathBuf),
    /// Certificate and key are not for each other, or of a kind that is not known.
    #[error("the certificate in {} and the key in {} cannot be used: {error}", .certificate.display(), .key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        error: rustls::Error,
    },
    /// A root certificate is of no use.
    #[error("the root certificates in {} cannot be used: {reason}", .file.display())]
    Roots {
        /// The file.
        file: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

impl Tls {
    /// The registered port of AMQP with TLS, on this machine's own addresses: `127.0.0.1:5671` and `[::1]:5671`.
    #[must_use]
    pub fn default_addresses() -> Vec<SocketAddr> {
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .map(|address| SocketAddr::new(address, PORT))
            .to_vec()
    }

    /// Reads the files.
    pub(super) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(self.key.clone()),
            error => unreadable(&self.key, error),
        })?;
        warn_of_readers(&self.key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = |error| TlsError::Identity {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            error,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(identity)?;
        let builder = match &self.clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Optional(file) | ClientCertificates::Required(file) => {
                let unusable = |reason: String| TlsError::Roots { file: file.clone(), reason };
                let mut roots = RootCertStore::empty();
                for root in certificates(file)? {
                    roots.add(root).map_err(|error| unusable(error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match &self.clients {
                    ClientCertificates::Optional(_) => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                let verifier = verifier
                    .build()
                    .map_err(|error: VerifierBuilderError| unusable(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(identity)?;
        Ok(Arc::new(config))
    }
}

/// Whether every user of the machine can read a file. A group may be meant to.
pub(crate) fn is_readable_by_all(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

fn warn_of_readers(key: &Path) {
    if is_readable_by_all(key) {
        tracing::warn!(
            file = %key.display(),
            "every user of this machine can read the private key: take the permission away (`chmod o= FILE`), and \
             replace the key if others use this machine"
        );
    }
}

/// All certificates of a PEM file; one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(file, error))?;
    if found.is_empty() { Err(TlsError::NoCertificate(file.to_owned())) } else { Ok(found) }
}

fn unreadable(file: &Path, error: pem::Error) -> TlsError {
    let file = file.to_owned();
    match error {
        pem::Error::Io(error) => TlsError::Io { file, error },
        error => TlsError::Pem { file, error },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said when these are the contents of the three files; `None`: all is well.
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are no business of the engine's disk"
    )]
    fn complaint(certificate: &str, key: &str, roots: Option<&str>) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let tls = Tls {
            listen: Vec::new(),
            certificate: write("certificate.pem", certificate),
            key: write("key.pem", key),
            clients: roots.map_or(ClientCertificates::NotAsked, |roots| {
                ClientCertificates::Required(write("roots.pem", roots))
            }),
        };
        let complaint = tls.load().err()?.to_string();
        Some(complaint.replace(&format!("{}/", directory.path().display()), ""))
    }

    fn identity() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn files_that_are_of_no_use_are_named_with_what_is_wrong() {
        let (certificate, key) = identity();
        assert_eq!(complaint(&certificate, &key, None), None);
        assert_eq!(complaint(&certificate, &key, Some(&certificate)), None);
        let both = format!("{key}{certificate}");
        assert_eq!(complaint(&both, &both, None), None, "one file for both is fine");
        let says = |complaint: Option<String>, parts: &[&str]| {
            let complaint = complaint.expect("something is wrong");
            assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
        };
        says(complaint("", &key, None), &["no certificate in certificate.pem"]);
        says(complaint(&key, &key, None), &["no certificate in certificate.pem"]);
        says(complaint(&certificate, &certificate, None), &["no private key in key.pem"]);
        says(complaint(&certificate, &key, Some("")), &["no certificate in roots.pem"]);
        let other = identity().1;
        says(
            complaint(&certificate, &other, None),
            &["certificate.pem", "key.pem", "cannot be used"],
        );
        let broken = certificate.replace("MII", "M?I");
        says(complaint(&broken, &key, None), &["certificate.pem"]);
        let missing = Tls {
            listen: Vec::new(),
            certificate: "/nowhere/certificate.pem".into(),
            key: "/nowhere/key.pem".into(),
            clients: ClientCertificates::NotAsked,
        };
        says(
            missing.load().err().map(|e| e.to_string()),
            &["cannot read /nowhere/certificate.pem"],
        );
    }
}
