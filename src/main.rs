//! Turns flags, signals and an error chain into a process.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use goproxy::base::terminal::Style;
use goproxy::base::vital;
use goproxy::cli::{self, Cli, Command, Failure, FileArgs, Loaded};
use goproxy::config;
use goproxy::control::{UpgradeError, UpgradeReply};
use goproxy::demo;
use goproxy::log::{self, LogFormat};
use goproxy::proxy::{Handed, Proxy};
use goproxy::service;
use goproxy::upgrade::{Predecessor, Program};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Also the heap profile behind `/debug/pprof/heap`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by the allocator at start: one allocation in half a mebibyte is sampled for the heap profile, which
/// costs nothing one can measure. What was freed goes back to the system by a thread of the allocator's: otherwise a
/// thread that has nothing to do any more, as after a flood, would keep it.
#[allow(unsafe_code, reason = "the allocator looks for a symbol of this name, and nothing else can set it in time")]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] =
    b"prof:true,prof_active:true,lg_prof_sample:19,background_thread:true,max_background_threads:1\0";

/// The process could not start, or could not go on.
const EXIT_FAILED: u8 = 1;

/// A second signal came while the first was being carried out.
const EXIT_FORCED: u8 = 3;

/// How long threads that hang in a system call may hold up the end.
const RUNTIME_END_MAX: Duration = Duration::from_millis(500);

/// How long threads may take to end that have been told to: one that compiles a module does not look up.
const THREADS_END_MAX: Duration = Duration::from_millis(500);

/// What is said of a process that cannot go on.
const FAILED: &str = "a background task exited unexpectedly; the log names it";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None if cli.test => cli::check(&cli.file, cli::Dump::None, false).map(|()| ExitCode::SUCCESS),
        None => Ok(run(&cli.file)),
        Some(Command::Run { file }) => Ok(run(&file)),
        Some(Command::Check { file, dump, secrets, strict }) => {
            cli::check(&file, cli::Dump::new(dump, secrets), strict).map(|()| ExitCode::SUCCESS)
        }
        #[cfg(feature = "top")]
        Some(Command::Top(args)) => cli::top(&args),
        Some(Command::Events(args)) => cli::events(&args),
        Some(Command::Status(args)) => cli::status(&args),
        Some(Command::Upgrade(args)) => cli::upgrade(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Reload(args)) => cli::reload(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Drain(args)) => cli::drain(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Import(args)) => cli::import(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Policy { command }) => cli::policy(&command),
        Some(Command::Demo { keep }) => demo::run(keep),
        Some(Command::Schema { scenario }) => {
            let schema = if scenario { config::scenario_schema() } else { config::schema() };
            cli::print(&schema).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        use std::io::Write;
        // Stderr may be closed; the exit code says it too.
        let _ = writeln!(std::io::stderr(), "goproxy: {}", cli::error_text(&error));
        ExitCode::from(EXIT_FAILED)
    })
}

fn run(file: &FileArgs) -> ExitCode {
    // The file of the program may be replaced at any moment.
    let program = Program::of_this_process();
    let in_text = |error: anyhow::Error| Failure::new(LogFormat::Text, error);
    let found = Predecessor::find().context("cannot take over").map_err(in_text);
    let done = found.and_then(|mut before| {
        let done = cli::load(file).and_then(|loaded| {
            let format = loaded.config.log.format;
            run_loaded(loaded, before.as_mut(), program).map_err(|error| Failure::new(format, error))
        });
        done.inspect_err(|failure| {
            if let Some(before) = &before {
                before.failed(&failure.summary());
            }
        })
    });
    done.unwrap_or_else(|failure| {
        failure.say();
        ExitCode::from(EXIT_FAILED)
    })
}

fn run_loaded(
    loaded: Loaded,
    before: Option<&mut Predecessor>,
    program: std::io::Result<Program>,
) -> anyhow::Result<ExitCode> {
    let log = &loaded.config.log;
    let _flushed_last = log::init(log.format, log.level, log.sessions, Style::of_stderr().is_colored);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = serve(loaded, before, program) => done,
            // On the same thread as all management: the watchdog hears nothing when that hangs.
            never = service::report() => match never {},
        }
    });
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    if let Err(threads) = vital::join_all(THREADS_END_MAX) {
        tracing::warn!(threads = threads.join(", "), "not waiting any longer for threads to end");
    }
    done
}

/// Serves until a signal stops it, or another process has taken over.
async fn serve(
    loaded: Loaded,
    before: Option<&mut Predecessor>,
    program: std::io::Result<Program>,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot watch for signals")?;
    let Loaded { path, text, config } = loaded;
    let is_legacy = config.is_legacy;
    let proxy = match before {
        None => Proxy::start(path, &text, config).await?,
        Some(before) => {
            service::wait_for_turn();
            Proxy::take_over(path, &text, config, before).await?
        }
    };
    if is_legacy {
        tracing::warn!("{}", config::LEGACY_NOTE);
    }
    service::ready();
    let mut left_over = None;
    let is_limited = loop {
        let order = match left_over.take() {
            Some(order) => order,
            None => tokio::select! {
                () = proxy.failed() => anyhow::bail!(FAILED),
                order = signals.next() => order,
                reply = proxy.upgrade_asked() => Order::Upgrade { reply: Some(reply) },
            },
        };
        match order {
            Order::Reload => reload(&proxy).await,
            Order::Nothing => {}
            Order::Drain { is_limited } => break is_limited,
            Order::Upgrade { reply } => {
                let upgraded = tokio::select! {
                    () = proxy.failed() => anyhow::bail!(FAILED),
                    upgraded = upgrade(&proxy, &program, &mut signals, reply) => upgraded,
                };
                match upgraded {
                    Ok(handed) => return finish(proxy, handed, signals).await,
                    Err(order) => left_over = order,
                }
            }
        }
    };
    service::stopping();
    stop(proxy, is_limited, signals).await
}

/// Stops, and waits for the sessions as long as they may take.
async fn stop(proxy: Proxy, is_limited: bool, mut signals: Signals) -> anyhow::Result<ExitCode> {
    let failed = proxy.failed();
    tokio::select! {
        // What cannot be done in order is not waited for.
        biased;
        () = failed => anyhow::bail!(FAILED),
        () = drain(&proxy, is_limited) => {
            proxy.stop().await;
            Ok(ExitCode::SUCCESS)
        }
        _ = signals.drain() => {
            tracing::warn!("second signal: stopping at once");
            Ok(ExitCode::from(EXIT_FORCED))
        }
    }
}

/// Has a new process take over. Where it does not, answers what is to be done now: a signal may have come meanwhile.
async fn upgrade(
    proxy: &Proxy,
    program: &std::io::Result<Program>,
    signals: &mut Signals,
    reply: Option<UpgradeReply>,
) -> Result<Handed, Option<Order>> {
    let (stop, mut left_over) = (CancellationToken::new(), None);
    let upgrading = async {
        match program {
            Ok(program) => proxy.upgrade(program, &stop).await,
            Err(error) => Err(UpgradeError::Refused(format!("the system does not tell where the program is: {error}"))),
        }
    };
    let mut upgrading = std::pin::pin!(upgrading);
    let outcome = loop {
        tokio::select! {
            outcome = &mut upgrading => break outcome,
            order = signals.next() => match order {
                Order::Drain { .. } => {
                    stop.cancel();
                    left_over = Some(order);
                }
                // The new process reads the file anyway.
                Order::Reload if left_over.is_none() => left_over = Some(order),
                Order::Reload | Order::Nothing | Order::Upgrade { .. } => {}
            },
            other = proxy.upgrade_asked() => {
                let _ = other.send(Err(UpgradeError::Refused("an upgrade is under way".to_owned())));
            }
        }
    };
    if let Some(reply) = reply {
        // Whoever asked may be gone.
        let _ = reply.send(outcome.as_ref().map(|handed| handed.upgraded().clone()).map_err(Clone::clone));
    }
    if let (Ok(handed), Some(Order::Drain { .. })) = (&outcome, &left_over) {
        handed.stop();
    }
    outcome.map_err(|_told| left_over)
}

/// Waits for the sessions that are left when another process has taken over, and ends.
async fn finish(proxy: Proxy, handed: Handed, mut signals: Signals) -> anyhow::Result<ExitCode> {
    let order = tokio::select! {
        () = proxy.failed() => anyhow::bail!(FAILED),
        () = proxy.finish(handed) => None,
        is_limited = signals.drain() => Some(is_limited),
    };
    match order {
        Some(is_limited) => stop(proxy, is_limited, signals).await,
        None => {
            proxy.stop().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn drain(proxy: &Proxy, is_limited: bool) {
    let config = proxy.control().config();
    if is_limited {
        proxy.announce_stop(config.shutdown_delay).await;
    }
    // It may have been changed meanwhile.
    proxy.drain(is_limited.then(|| proxy.control().config().drain_timeout)).await;
}

async fn reload(proxy: &Proxy) {
    service::reloading();
    // `control` logs what comes of it.
    drop(proxy.control().reload().await);
    service::ready();
}

/// What a signal asks for.
enum Order {
    Drain {
        is_limited: bool,
    },
    Reload,
    /// Who waits for the outcome, if anybody.
    Upgrade {
        reply: Option<UpgradeReply>,
    },
    Nothing,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Drain { is_limited: true },
            _ = self.interrupt.recv() => Order::Drain { is_limited: true },
            _ = self.quit.recv() => Order::Drain { is_limited: false },
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user1.recv() => {
                // Also while it stops, when whoever rotates logs comes by.
                log::reopen_access_logs();
                Order::Nothing
            }
            _ = self.user2.recv() => Order::Upgrade { reply: None },
        }
    }

    /// Completes when the process is told to stop; tells whether the wait for sessions is limited.
    async fn drain(&mut self) -> bool {
        loop {
            if let Order::Drain { is_limited } = self.next().await {
                return is_limited;
            }
        }
    }
}
