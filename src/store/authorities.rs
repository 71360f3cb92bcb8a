//! Whose certificates are believed: this host's authorities, or those of one file instead.

use std::path::Path;

use rustls::RootCertStore;

use super::error::{Place, StoreError};
use crate::https;

/// The certificates of one file, which were found to be some.
#[derive(Clone, Debug)]
pub(super) struct Authorities {
    /// As the file has them.
    pub pem: Vec<u8>,
    /// The same, to be asked.
    pub roots: RootCertStore,
}

impl Authorities {
    /// Reads `file` for the store called `name`. Nothing that a client would stumble over later is let through.
    ///
    /// # Errors
    /// [`StoreError::Authorities`] when it cannot be read, has no certificate, or something else between them.
    pub fn load(file: &Path, name: &str) -> Result<Self, StoreError> {
        let unusable = |why: String| StoreError::Authorities {
            at: Place::store(name, "open"),
            file: file.to_owned(),
            source: why.into(),
        };
        let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let roots = https::authorities(&pem).map_err(unusable)?;
        Ok(Authorities { pem, roots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    #[test]
    fn a_file_without_a_certificate_is_named_and_stops_nothing_later() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "no certificate", damaged] {
            std::fs::write(file.path(), content).unwrap();
            let error = Authorities::load(file.path(), "s3://b").unwrap_err();
            assert!(error.to_string().starts_with("cannot open s3://b: its ca_file /"), "{error}");
            assert!(error.next_step().unwrap().contains("PEM"), "{content}");
        }
        assert!(Authorities::load(Path::new("/no/such"), "s3://b").is_err());
    }
}
