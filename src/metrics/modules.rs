//! The metrics of policies in WebAssembly.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::families::{Families, Labels};
use crate::counters::{FaultKind, ModuleCounters};
use crate::policy::wasm::view::{ModuleState, ModuleView};

/// Each module that a group names.
fn named(modules: &[ModuleView]) -> impl Iterator<Item = (Labels<'_>, &ModuleView)> {
    let named = modules.iter().filter(|module| module.state != ModuleState::Available);
    named.map(|module| (vec![("policy", &*module.name)], module))
}

/// The counters of each module that has some.
fn counters(modules: &[ModuleView]) -> impl Iterator<Item = (Labels<'_>, &ModuleCounters)> {
    named(modules).filter_map(|(labels, module)| Some((labels, module.counters.as_deref()?)))
}

/// One series per module of what is counted in this field.
fn each<'a>(
    modules: &'a [ModuleView],
    field: impl Fn(&ModuleCounters) -> &AtomicU64 + 'a,
) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
    counters(modules).map(move |(labels, counters)| (labels, field(counters).load(Relaxed)))
}

pub(super) fn write(modules: &[ModuleView], families: &mut Families<'_>) -> fmt::Result {
    let picks = each(modules, |counters| &counters.picks);
    families.counter("policy_picks", "Picks that a module was asked for", picks)?;
    let time = counters(modules).map(|(labels, counters)| (labels, &counters.pick_time));
    families.histogram("policy_pick_seconds", "How long one pick in sixteen took", time)?;
    let faults = counters(modules).flat_map(|(labels, counters)| {
        FaultKind::ALL.map(|kind| {
            let reason = ("reason", kind.as_str());
            (labels.iter().copied().chain([reason]).collect(), counters.faults(kind))
        })
    });
    families.counter("policy_faults", "What a module did wrong, by reason", faults)?;
    let fallbacks = each(modules, |module| &module.fallbacks);
    families.counter("policy_fallbacks", "Picks that a module's fallback answered", fallbacks)?;
    let nones = each(modules, |module| &module.nones);
    families.counter("policy_nones", "Clients to whom a module named no server though one was open", nones)?;
    let is_quarantined = |module: &ModuleView| u64::from(module.state == ModuleState::Quarantined);
    let quarantined = named(modules).map(|(labels, module)| (labels, is_quarantined(module)));
    families.gauge("policy_quarantined", "1 while a module is not asked because of its faults", quarantined)?;
    families.counter("policy_swaps", "Versions that took over", each(modules, |module| &module.swaps))?;
    let refusals = each(modules, |module| &module.refusals);
    families.counter("policy_refused_versions", "Versions of a module's file that were refused", refusals)?;
    let loaded = named(modules).filter_map(|(mut labels, module)| {
        labels.extend([("version", module.version.as_deref()?), ("sha256", module.sha256.as_deref()?)]);
        Some(labels)
    });
    families.info("policy", "The version of a module that is in use", loaded)
}
