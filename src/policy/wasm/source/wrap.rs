//! A core module wrapped into a component, as `wit/balance.wit` wants it.

use wit_component::ComponentEncoder;

use super::error::{self, SourceError};
use super::scan::Scan;
use super::{check, contract, metadata};

/// Wraps a core module, which is known to fit the contract.
///
/// # Errors
///
/// What it says of itself does not fit, or the library refuses it.
pub(super) fn wrap(module: &[u8], found: &Scan<'_>) -> Result<Vec<u8>, SourceError> {
    let mut bytes = module.to_vec();
    if found.metadata.is_empty() {
        let (version, has_feedback) = check::made_for(found);
        bytes.extend(contract::metadata(version, has_feedback)?);
    } else {
        metadata::check(&found.metadata)?;
    }
    let encoded = ComponentEncoder::default().validate(true).module(&bytes).and_then(|mut encoder| encoder.encode());
    encoded.map_err(error::unfit)
}
