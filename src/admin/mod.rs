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

use crate::config::AdminListen;
use crate::control::Control;
use crate::events::{self, AdminEvent, Event};
use crate::frames::Frames;
use crate::net::admin_connections_max;
use answer::Rules;
use app::App;
pub use codes::CODES;
use endpoints::Serves;
pub use reference::{EndpointReference, ParamReference, reference};
use server::listen::Bound;
use server::{Body, Caller, LIMITS, Limits};
use stream::Streams;

/// The admin port, bound and not yet serving.
pub struct AdminServer {
    main: Bound,
    pprof: Option<Bound>,
}

impl AdminServer {
    /// Binds the admin port and, when it has a place of its own, `/debug/pprof/`.
    ///
    /// Needs no runtime, so that a busy port is known before anything else is started.
    ///
    /// # Errors
    ///
    /// An address cannot be bound; the text says which and why. A unix socket that another process answers
    /// on is an error, a stale one is replaced.
    pub fn bind(listen: &AdminListen, pprof: Option<SocketAddr>) -> io::Result<Self> {
        let pprof = pprof.map(|addr| Bound::new(&AdminListen::Tcp(addr))).transpose()?;
        Ok(Self { main: Bound::new(listen)?, pprof })
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
    /// # Errors
    ///
    /// The runtime cannot take over a bound socket; nothing is served then.
    pub async fn run(
        self,
        control: Control,
        draining: CancellationToken,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let (changes, streams, frames) = (TaskTracker::new(), Streams::new(draining), Frames::default());
        let app = Arc::new(App { control: control.clone(), changes, streams, frames });
        let serving = async {
            match self.pprof {
                Some(pprof) => {
                    let main = serve_on(Serves::AllButProfiles, self.main, &app, shutdown.clone());
                    let (main, pprof) = tokio::join!(main, serve_on(Serves::Profiles, pprof, &app, shutdown.clone()));
                    main.and(pprof)
                }
                None => serve_on(Serves::All, self.main, &app, shutdown.clone()).await,
            }
        };
        let frames = async {
            app.frames.run(control, shutdown.clone()).await;
            Ok(())
        };
        // When the port cannot be served, nobody waits for frames.
        tokio::try_join!(serving, frames)?;
        app.changes.close();
        if timeout(LIMITS.shutdown_time, app.changes.wait()).await.is_err() {
            events::publish(Event::Admin(AdminEvent::Unfinished { changes: app.changes.len() }));
        }
        Ok(())
    }
}

async fn serve_on(serves: Serves, bound: Bound, app: &Arc<App>, shutdown: CancellationToken) -> io::Result<()> {
    let name = if serves == Serves::Profiles { "pprof" } else { "admin" };
    events::publish(Event::Admin(AdminEvent::Listens { listen: bound.to_string().into(), serves: name }));
    let (control, filter) = (app.control.clone(), filter::filter(app));
    let handler = move |caller: Caller, request: Request<Body>| {
        let (config, filter) = (control.config(), filter.clone());
        async move {
            let rules = Rules { settings: &config.admin, lines: config.log.requests, serves };
            answer::answer(request, caller, rules, filter).await
        }
    };
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = usize::try_from(admin_connections_max(descriptors)).unwrap_or(usize::MAX);
    let limits = Limits { connections, ..LIMITS };
    match bound {
        Bound::Tcp(listener) => server::serve(TcpListener::from_std(listener)?, limits, handler, shutdown).await,
        Bound::Unix(listener, _file) => {
            server::serve(UnixListener::from_std(listener)?, limits, handler, shutdown).await;
        }
    }
    Ok(())
}
