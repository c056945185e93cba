//! Answers HTTP: the endpoints by which operators and servers steer the proxy, metrics, and profiles.
//!
//! `server` binds, accepts and speaks HTTP within bounds; `answer` leads each request past the `guard` to its
//! endpoint in the table of `endpoints`, through the one warp filter of `filter`. Handlers ask `Control`, which
//! alone changes anything. Every refusal is JSON with a stable code and a true status; input never causes a 5xx.
//! What is no HTTP at all is refused by hyper, with a bare status.
//!
//! All of it runs on the management runtime and blocks it nowhere. The caller decides when it stops: it is
//! to be the last thing that does, so that the port answers while sessions drain.

mod answer;
mod app;
mod blocking;
mod codes;
mod endpoints;
mod filter;
mod fuzz;
mod guard;
mod gzip;
mod params;
mod profile;
mod reference;
mod reply;
mod server;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::http::Request;

use crate::config::{AdminListen, AdminSettings};
use crate::control::Control;
use crate::events::{self, AdminEvent, Event};
use crate::frames::Frames;
use crate::net::admin_connections_max;
use answer::Rules;
use app::App;
pub use codes::CODES;
use endpoints::Serves;
#[cfg(fuzzing)]
pub(crate) use fuzz::fuzz;
pub use reference::{EndpointReference, ParamReference, reference};
use server::listen::Bound;
pub use server::listen::Sockets;
use server::{Body, Caller, LIMITS, Limits, Stops};
use stream::Streams;

/// The admin port, bound and not yet serving.
pub struct AdminServer {
    main: Bound,
    pprof: Option<Bound>,
    metrics: Option<Bound>,
}

impl AdminServer {
    /// Binds the admin port and, where they have a place of their own, `/debug/pprof/` and metrics; takes those of `sockets`
    /// that listen there already.
    ///
    /// Needs no runtime, so that a busy port is known before anything else is started.
    ///
    /// # Errors
    ///
    /// An address cannot be bound; the text says which and why. A unix socket that another process answers
    /// on is an error, a stale one is replaced.
    pub fn bind(settings: &AdminSettings, sockets: &mut Sockets) -> io::Result<Self> {
        let mut bind =
            |addr: Option<SocketAddr>| addr.map(|addr| Bound::on(&AdminListen::Tcp(addr), sockets)).transpose();
        let (pprof, metrics) = (bind(settings.pprof_listen)?, bind(settings.metrics_listen)?);
        Ok(Self { main: Bound::on(&settings.listen, sockets)?, pprof, metrics })
    }

    /// Duplicates of its sockets, for another process or for another server of this one.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<Sockets> {
        let all = [Some(&self.main), self.pprof.as_ref(), self.metrics.as_ref()];
        all.into_iter().flatten().map(|bound| Ok((bound.to_string(), bound.share()?))).collect()
    }

    /// Where the admin port listens; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.main.local_addr()
    }

    /// Where `/debug/pprof/` listens, if not on the admin port.
    pub fn pprof_addr(&self) -> Option<SocketAddr> {
        self.pprof.as_ref().and_then(Bound::local_addr)
    }

    /// Serves until `shutdown` is cancelled; then takes no new connection, gives requests and changes under
    /// way a second, and removes the unix socket. Streams of events end when `draining` is cancelled. Dropping the future ends every connection at once.
    ///
    /// When `resting`, a child of `shutdown`, is cancelled alone, another process is to serve: requests under way get as long as
    /// they need, and the unix socket stays.
    ///
    /// # Errors
    ///
    /// The runtime cannot take over a bound socket; nothing is served then.
    pub async fn run(
        self,
        control: Control,
        draining: CancellationToken,
        resting: CancellationToken,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let stops = Stops { resting, shutdown };
        let (changes, streams, frames) = (TaskTracker::new(), Streams::new(draining), Frames::default());
        let app = Arc::new(App { control: control.clone(), changes, streams, frames });
        let on_main = if self.pprof.is_some() { Serves::AllButProfiles } else { Serves::All };
        let serve = |serves, bound: Option<Bound>| {
            let (app, stops) = (&app, &stops);
            async move {
                match bound {
                    Some(bound) => serve_on(serves, bound.owned(), app, stops).await,
                    None => Ok(()),
                }
            }
        };
        let (main, pprof) = (serve(on_main, Some(self.main)), serve(Serves::Profiles, self.pprof));
        let metrics = serve(Serves::Metrics, self.metrics);
        let frames = async {
            app.frames.run(control, stops.resting.clone()).await;
            Ok(())
        };
        // When a port cannot be served, nobody waits for the others, nor for frames.
        tokio::try_join!(main, pprof, metrics, frames)?;
        app.changes.close();
        let is_over = stops.shutdown.run_until_cancelled(app.changes.wait()).await.is_some();
        if !is_over && timeout(LIMITS.shutdown_time, app.changes.wait()).await.is_err() {
            events::publish(Event::Admin(AdminEvent::Unfinished { changes: app.changes.len() }));
        }
        Ok(())
    }
}

async fn serve_on(serves: Serves, bound: Bound, app: &Arc<App>, stops: &Stops) -> io::Result<()> {
    let name = match serves {
        Serves::All | Serves::AllButProfiles => "admin",
        Serves::Profiles => "pprof",
        Serves::Metrics => "metrics",
    };
    let is_loopback = bound.local_addr().is_some_and(|addr| addr.ip().to_canonical().is_loopback());
    events::publish(Event::Admin(AdminEvent::Listens { listen: bound.to_string().into(), serves: name }));
    let (control, filter) = (app.control.clone(), filter::filter(app));
    let handler = move |caller: Caller, request: Request<Body>| {
        let (config, filter) = (control.config(), filter.clone());
        async move {
            let settings = &config.admin;
            // Without any token the guard lets in who asks by an address, and keeps out pages that rebind a name.
            let is_public =
                serves == Serves::Metrics && (settings.metrics_public || (is_loopback && settings.token.is_some()));
            let rules = Rules { settings, lines: config.log.requests, serves, is_public };
            answer::answer(request, caller, rules, filter).await
        }
    };
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = usize::try_from(admin_connections_max(descriptors)).unwrap_or(usize::MAX);
    let limits = Limits { connections, ..LIMITS };
    match bound {
        Bound::Tcp(listener) => server::serve(TcpListener::from_std(listener)?, limits, handler, stops).await,
        Bound::Unix(listener, mut file) => {
            let listener = UnixListener::from_std(listener)?;
            let serving = server::serve(listener, limits, handler, stops);
            let resting = async {
                stops.resting.cancelled().await;
                !stops.shutdown.is_cancelled()
            };
            let ((), is_resting) = tokio::join!(serving, resting);
            if is_resting {
                file.keep();
            }
        }
    }
    Ok(())
}
