//! The cryptography behind `https` and `wss`, and whom we trust.

use rustls::{ClientConfig, RootCertStore};

/// Makes ring the process's provider, unless somebody chose one before: with several in the
/// dependency tree, rustls refuses to pick one by itself.
pub(crate) fn install_provider() {
    // The error says that a provider is installed, which is all we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// TLS that trusts the roots which are built in, as the stream does: a small image has no
/// certificates of its own.
pub(crate) fn config() -> ClientConfig {
    install_provider();
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}
