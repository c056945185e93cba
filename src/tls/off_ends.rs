//! What stands in for the ends of TLS connections in a build without it. Nothing of it can exist.

use std::sync::Arc;

use super::{ServerTlsSettings, TlsSettings};

/// What makes a connection one of TLS; there is none.
#[derive(Debug)]
pub enum Acceptor {}

impl Acceptor {
    /// None, as there are no settings without a certificate.
    pub fn after(_: Option<&Arc<TlsSettings>>, _: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        None
    }
}

/// What makes a connection to a server one of TLS; there is none.
#[derive(Debug)]
pub enum Connector {}

impl Connector {
    /// None, as there are no settings.
    pub fn after(_: Option<&Arc<ServerTlsSettings>>, _: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        None
    }

    /// True when a server has to be whom a client asks for.
    pub(crate) fn is_by_client(&self) -> bool {
        match *self {}
    }
}

/// Nothing is wrong with settings that cannot be.
///
/// # Errors
///
/// None.
pub fn check_clients(_: &TlsSettings) -> Result<(), String> {
    Ok(())
}

/// True for what may be a name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
}
