//! TLS to servers: begun as soon as a connect is, and over before the client's bytes go out.

use std::io;

use super::Dialer;
use crate::data::session::connect::{Greeting, Step};
use crate::data::session::record::SessionRecord;
use crate::data::session::stream::Stream;
use crate::group::GroupSettings;
use crate::net::proxy_header::Secured;
#[cfg(feature = "tls")]
use crate::{
    base::clock,
    counters::{TlsResult, TlsSide},
};

/// How a client's servers are spoken to.
#[derive(Debug, Default)]
pub(super) struct Security {
    #[cfg(feature = "tls")]
    tls: Option<Box<Tls>>,
}

/// What is known of TLS on the two sides, where there is some.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Tls {
    /// What TLS to servers is made with; `None` where servers are spoken to in plain.
    connector: Option<std::sync::Arc<crate::tls::Connector>>,
    /// The client's TLS with us.
    client: Option<Box<Secured>>,
}

#[cfg(feature = "tls")]
impl Security {
    /// The client's TLS with us, if it speaks that.
    pub(super) fn client(&self) -> Option<&Secured> {
        self.tls.as_ref()?.client.as_deref()
    }

    #[inline]
    fn connector(&self) -> Option<(&crate::tls::Connector, &Tls)> {
        let tls = self.tls.as_deref()?;
        Some((tls.connector.as_deref()?, tls))
    }
}

#[cfg(feature = "tls")]
impl Dialer {
    /// Has servers spoken to as the group does, and told of the client's TLS.
    #[inline]
    pub(super) fn secure(&mut self, settings: &GroupSettings, client: Option<Box<Secured>>, record: &SessionRecord) {
        if settings.server_tls.is_some() || client.is_some() {
            let connector = settings.server_tls.as_ref().and_then(|_| record.group().snapshot().server_tls.clone());
            self.security.tls = Some(Box::new(Tls { connector, client }));
        }
    }

    /// What a server is sent at once: with TLS nothing, as even its PROXY header waits for the socket.
    #[inline]
    pub(super) fn greeting<'a>(&'a self, first_bytes: &'a [u8]) -> Greeting<'a> {
        match self.security.connector() {
            None => Greeting { header: self.header(), first_bytes },
            Some(_) => Greeting { header: &[], first_bytes: &[] },
        }
    }

    /// The connect under way, as one with TLS where the group wants that.
    #[inline]
    pub(super) fn secured(&self, step: Step) -> io::Result<Step> {
        match self.security.connector() {
            None => Ok(step),
            Some((connector, tls)) => self.with_tls(connector, tls.client.as_deref(), step),
        }
    }

    #[cold]
    fn with_tls(&self, connector: &crate::tls::Connector, client: Option<&Secured>, step: Step) -> io::Result<Step> {
        let (Step::Connected(mut server, _) | Step::Connecting(mut server, _)) = step else { return Ok(step) };
        let host = self.attempt.as_ref().expect("a connect is one of an attempt").slot.server.settings.addr.host();
        let asked_for = client.and_then(|client| client.asked_for.as_deref());
        let connection = connector.connect(host, asked_for).map_err(crate::tls::TlsFailure)?;
        server.start_tls(connection, Vec::new());
        if let Some(socket) = server.as_tls() {
            socket.set_preface(self.header().to_vec());
        }
        // A connection that is there already takes the first message.
        server.is_ready()?;
        Ok(Step::Connecting(server, self.header().len()))
    }
}

#[cfg(feature = "tls")]
impl Dialer {
    /// Counts the handshake with a server that was reached, if there was one. It is over since the connect is.
    #[inline]
    pub(super) fn count_reached(&self, server: &mut Stream, record: &SessionRecord) {
        if self.security.connector().is_some()
            && let Some(tls) = server.as_tls()
        {
            let started_us = self.attempt.as_ref().map_or(0, |attempt| attempt.started_us);
            let micros = clock::precise_us().saturating_sub(started_us);
            tls.count(record.group().counters.tls(TlsSide::Server), micros);
        }
    }

    /// Counts a handshake that has failed, if this is why the attempt has.
    #[cold]
    pub(super) fn count_failed(&self, error: &io::Error, record: &SessionRecord) {
        if crate::tls::TlsFailure::behind(error).is_some() {
            record.group().counters.tls(TlsSide::Server).ended(TlsResult::Failed);
        }
    }
}

#[cfg(not(feature = "tls"))]
impl Security {
    /// Nothing: this build has no TLS.
    pub(super) fn client(&self) -> Option<&Secured> {
        None
    }
}

#[cfg(not(feature = "tls"))]
impl Dialer {
    /// Nothing: there is no handshake.
    pub(super) fn count_reached(&self, _: &mut Stream, _: &SessionRecord) {}

    /// Nothing, too.
    pub(super) fn count_failed(&self, _: &io::Error, _: &SessionRecord) {}

    /// Nothing: this build has no TLS.
    pub(super) fn secure(&mut self, _: &GroupSettings, _: Option<Box<Secured>>, _: &SessionRecord) {}

    /// What a server is sent at once.
    #[inline]
    pub(super) fn greeting<'a>(&'a self, first_bytes: &'a [u8]) -> Greeting<'a> {
        Greeting { header: self.header(), first_bytes }
    }

    /// The connect under way.
    #[inline]
    pub(super) fn secured(&self, step: Step) -> io::Result<Step> {
        let Security {} = &self.security;
        Ok(step)
    }
}
