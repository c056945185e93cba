//! One endpoint of the table, and one call of it.

use std::pin::Pin;
use std::sync::Arc;

use warp::http::HeaderMap;

use crate::admin::app::App;
use crate::admin::guard::{Audience, Rights};
use crate::admin::params::{Pairs, Param};
use crate::admin::reply::{Answer, Refusal};
use crate::admin::server::Peer;
use crate::control::Control;

/// Whether an endpoint only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Kind {
    /// Changes nothing.
    Read,
    /// Runs to its end even when the caller hangs up; by GET only where the file allows it.
    Change,
    /// As `Change`, and never by GET.
    PostedChange,
    /// Changes nothing, needs no token, and is answered even when the port has no place left.
    Probe,
}

impl Kind {
    pub(in crate::admin) fn is_change(self) -> bool {
        matches!(self, Self::Change | Self::PostedChange)
    }
}

/// One endpoint: what it is called, what it takes, what it does, and what answers it.
pub(in crate::admin) struct Endpoint {
    /// Without the leading slash.
    pub(in crate::admin) path: &'static str,
    pub(in crate::admin) kind: Kind,
    /// Who may call it where a token is configured.
    pub(in crate::admin) audience: Audience,
    pub(in crate::admin) params: &'static [Param],
    /// For people, in one or two sentences.
    pub(in crate::admin) doc: &'static str,
    /// Reads the parameters and answers.
    pub(in crate::admin) answer: fn(Call) -> Result<Answering, Refusal>,
}

/// An answer that is being made.
pub(in crate::admin) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request that passed the guard.
pub(in crate::admin) struct Call {
    pub(in crate::admin) app: Arc<App>,
    pub(in crate::admin) pairs: Pairs,
    pub(in crate::admin) headers: HeaderMap,
    pub(in crate::admin) rights: Rights,
    /// Who sent it.
    pub(in crate::admin) peer: Peer,
}

impl Call {
    pub(super) fn control(&self) -> &Control {
        &self.app.control
    }
}

/// An [`Endpoint`] whose handler takes a [`Call`] and the parameters of the type that is named.
macro_rules! endpoint {
    ($kind:ident $audience:ident $path:literal $handler:path { $params:ty } $doc:literal) => {
        Endpoint {
            path: $path,
            kind: Kind::$kind,
            audience: Audience::$audience,
            params: <$params as Params>::PARAMS,
            doc: $doc,
            answer: |call| {
                let params: $params = call.pairs.read()?;
                Ok(Box::pin($handler(call, params)))
            },
        }
    };
}

pub(super) use endpoint;
