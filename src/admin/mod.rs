//! Answers HTTP: the endpoints by which operators and servers steer the proxy, metrics, and profiles.
//!
//! `listen` binds, `serve` accepts and speaks HTTP within bounds, `answer` leads each request past
//! the `guard` to its route, `filter` holds warp's filters, and `endpoints` ask `Control`, which alone
//! changes anything. Every refusal is JSON with a stable code and a true status; input never causes a 5xx.
//!
//! All of it runs on the management runtime and blocks it nowhere. The caller decides when it stops: it is
//! to be the last thing that does, so that the port answers while sessions drain.

mod answer;
mod guard;
mod endpoints;
mod params;
mod profile;
mod reply;
mod filter;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::http::Request;

use crate::config::AdminListen;
use crate::control::Control;
use server::listen::Bound;
use reply::Response;
use filter::App;
use server::{LIMITS, Peer};

/// The type of what [`AdminContext::metrics`] writes.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port asks.
#[derive(Clone)]
pub struct AdminContext {
    /// Knows and changes what runs. Tokens and rules are read from its configuration at every request, so
    /// they follow a reload.
    pub control: Arc<Control>,
    /// Writes all metrics as text of [`METRICS_CONTENT_TYPE`]; may take a while.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

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
    /// way a second, and removes the unix socket. Dropping the future ends every connection at once.
    ///
    /// # Errors
    ///
    /// The runtime cannot take over a bound socket; nothing is served then.
    pub async fn run(self, context: AdminContext, shutdown: CancellationToken) -> io::Result<()> {
        let app = Arc::new(App { context, changes: TaskTracker::new() });
        let mut main_routes = filter::admin(&app);
        match self.pprof {
            Some(pprof) => {
                let profiles = filter::first_of(filter::profiles(&app));
                let main = serve_on("admin", self.main, &app, filter::first_of(main_routes), shutdown.clone());
                let (main, pprof) = tokio::join!(main, serve_on("pprof", pprof, &app, profiles, shutdown));
                main.and(pprof)?;
            }
            None => {
                main_routes.extend(filter::profiles(&app));
                serve_on("admin", self.main, &app, filter::first_of(main_routes), shutdown).await?;
            }
        }
        app.changes.close();
        if timeout(LIMITS.shutdown_time, app.changes.wait()).await.is_err() {
            tracing::warn!(changes = app.changes.len(), "admin changes are still under way at the end");
        }
        Ok(())
    }
}

async fn serve_on(
    name: &str,
    bound: Bound,
    app: &Arc<App>,
    routes: BoxedFilter<(Response,)>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    tracing::info!(listen = %bound, serves = name, "admin listens");
    let control = Arc::clone(&app.context.control);
    let handler = move |peer: Peer, request: Request<Incoming>| {
        let (config, routes) = (control.config(), routes.clone());
        async move { answer::answer(request, peer, &config.admin, routes).await }
    };
    match bound {
        Bound::Tcp(listener) => server::serve(TcpListener::from_std(listener)?, LIMITS, handler, shutdown).await,
        Bound::Unix(listener, _file) => {
            server::serve(UnixListener::from_std(listener)?, LIMITS, handler, shutdown).await;
        }
    }
    Ok(())
}
