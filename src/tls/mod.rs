//! TLS as it is configured and made ready for sessions: certificates, keys, versions.
//!
//! [`TlsSettings`] is what a group's key `tls` says, with the certificates as they were read, and [`ServerTlsSettings`] what
//! `server_tls` says. An [`Acceptor`] and a [`Connector`] are made of them once, shared by all sessions of the group, and
//! kept until the settings are others. Who reads the file is `config`; who speaks TLS is `data/session`. A build without
//! the feature `tls` has the settings but cannot load a certificate, so nothing else of it ever runs.

#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
mod authorities;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod connector;
#[cfg(feature = "tls")]
mod failure;
#[cfg(feature = "tls")]
mod files;
#[cfg(not(feature = "tls"))]
mod off;
#[cfg(not(feature = "tls"))]
mod off_ends;
mod settings;

#[cfg(feature = "tls")]
pub use acceptor::{Acceptor, check_clients};
#[cfg(feature = "tls")]
pub use authorities::{Authorities, Revocations};
#[cfg(feature = "tls")]
pub use certificate::{Pair, load_pair};
#[cfg(feature = "tls")]
pub(crate) use certificate::{common_name, subject};
#[cfg(feature = "tls")]
pub use connector::{Connector, is_name};
#[cfg(feature = "tls")]
pub(crate) use failure::TlsFailure;
#[cfg(not(feature = "tls"))]
pub use off::{Authorities, Pair, Revocations, load_pair};
#[cfg(not(feature = "tls"))]
pub use off_ends::{Acceptor, Connector, check_clients, is_name};
pub use settings::{Certificate, ClientAuth, ServerTlsName, ServerTlsSettings, TlsSettings, TlsVersion, TrustedBy};

/// True when this build speaks TLS.
pub const IS_BUILT_IN: bool = cfg!(feature = "tls");
