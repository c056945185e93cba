//! The files that TLS needs.

use std::path::Path;

use rustls::pki_types::pem;

use crate::base::file;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// The content of a file, or why there is none: `site.pem: No such file or directory`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, BYTES_MAX).map_err(|error| format!("{}: {error}", path.display()))
}

/// What is wrong with a file of PEM. rustls would show the line, which may be a key.
pub(super) fn not_pem(error: &pem::Error) -> String {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no END line; expected BEGIN and END on lines of their own"
        }
        pem::Error::IllegalSectionStart { .. } => "something stands behind BEGIN; expected it on a line of its own",
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        pem::Error::NoItemsFound => "nothing of this kind is in it",
        _ => "it cannot be read",
    };
    format!("not PEM: {why}")
}
