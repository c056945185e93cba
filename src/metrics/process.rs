//! The metrics of what there is once: limits, checks, configuration, log, and the process itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::families::{Families, single};
use super::figures::ProcessFigures;
use crate::control::Control;
use crate::counters::{CheckCounters, ProcessCounters};
use crate::policy::wasm::view::ModuleView;

/// What there is once, at the scrape.
#[derive(Debug)]
pub(super) struct ProcessSample {
    pub(super) modules: Vec<ModuleView>,
    pub(super) counters: Arc<ProcessCounters>,
    pub(super) clients_tracked: u64,
    pub(super) clients_untracked: u64,
    pub(super) sessions_max: u64,
    pub(super) figures: ProcessFigures,
}

impl ProcessSample {
    pub(super) fn of(control: &Control) -> Self {
        let (sessions, limits) = (control.sessions(), control.sessions().limits());
        Self {
            modules: control.policies().modules().views(),
            counters: Arc::clone(control.counters()),
            clients_tracked: limits.tracked(),
            clients_untracked: limits.untracked(),
            sessions_max: sessions.sessions_max(),
            figures: ProcessFigures::read(),
        }
    }

    pub(super) fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauge("sessions_max", "Sessions that the process takes at a time", single(self.sessions_max))?;
        families.gauge("clients_tracked", "Clients whose sessions are counted", single(self.clients_tracked))?;
        let untracked = single(self.clients_untracked);
        families.counter("clients_untracked", "Clients let in without being counted", untracked)?;
        let CheckCounters { in_flight, late_us, delayed } = &self.counters.checks;
        families.gauge("checks_in_flight", "Checks under way", single(in_flight.load(Relaxed)))?;
        let late = late_us.load(Relaxed) as f64 / 1e6;
        families.gauge("checks_late_seconds", "How much too late the last check began", single(late))?;
        families.counter("checks_delayed", "Checks that waited for a place", single(delayed.load(Relaxed)))?;
        self.config(families)?;
        self.process(families)
    }

    fn config(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = &self.counters;
        families.counter("config_reloads", "Configurations read, good or not", single(counters.reloads()))?;
        families.counter("config_reload_errors", "Reloads that changed nothing", single(counters.reload_errors()))?;
        let is_good = u64::from(counters.is_last_reload_good());
        families.gauge("config_reload_success", "1 when the last reload went well", single(is_good))?;
        let loaded = (counters.reload_good_ms() > 0).then(|| counters.reload_good_ms() as f64 / 1e3);
        families.gauge(
            "config_reload_success_timestamp_seconds",
            "When the configuration in force was loaded",
            loaded.into_iter().flat_map(single),
        )?;
        let generation = single(counters.config_generation());
        families.gauge("config_generation", "Grows with every configuration put in force", generation)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let dropped = [("server", crate::log::dropped_total()), ("access", crate::access::dropped_total())];
        let dropped = dropped.map(|(log, lines)| (vec![("log", log)], lines));
        families.counter("log_dropped", "Log lines lost", dropped)?;
        families.info("build", "What was built", [vec![("version", env!("CARGO_PKG_VERSION"))]])?;
        let generation = single(self.counters.process_generation.load(Relaxed).max(1));
        families.gauge("process_generation", "Grows with every upgrade", generation)?;
        let figures = &self.figures;
        if let Some(seconds) = figures.cpu_seconds {
            families.counter("process_cpu_seconds", "Processor time used", single(seconds))?;
        }
        if let Some(bytes) = figures.resident_bytes {
            families.gauge("process_resident_memory_bytes", "Memory in use", single(bytes))?;
        }
        if let Some(open) = figures.open_fds {
            families.gauge("process_open_fds", "Open file descriptors", single(open))?;
        }
        if let Some(max) = figures.max_fds {
            families.gauge("process_max_fds", "Limit of open file descriptors", single(max))?;
        }
        if let Some(seconds) = figures.start_time_seconds {
            families.gauge("process_start_time_seconds", "When the process started", single(seconds))?;
        }
        Ok(())
    }
}
