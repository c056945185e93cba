//! `goproxy policy check`: one file, loaded as the proxy does, and the conformance run.

use std::path::Path;

use super::cost::cost;
use super::report::{Check, Report, Sizes};
use super::rig::{Rig, Subject, Tally, servers};
use super::scenes::{CLIENTS_MAX, SCENES, answers, leaving, spread};
use crate::base::clock;
use crate::base::text::{grouped, hex};
use crate::policy::spec::{ModuleSpec, is_module_name};
use crate::policy::wasm::source::{self, PolicyKeys};
use crate::policy::wasm::trial::Trial;

/// A run is over before this time has passed, in milliseconds; see [`Subject::start_ms`].
const RUN_MAX_MS: u64 = 600_000;

/// Loads the file, which one of `keys` has to have signed, with this configuration and runs every check. The name in `spec` is only shown.
pub fn check(path: &Path, spec: &ModuleSpec, file_bytes_max: u64, keys: &PolicyKeys) -> Report {
    let mut report = Report::new(path, spec);
    let is_named = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(is_module_name);
    if !is_named {
        let text = "no policy can be called so: expected a file name of letters, digits, _, - and .";
        report.notes.push(text.to_owned());
    }
    let limits = source::Limits { file_bytes_max, compile_budget: spec.compile_budget };
    match Trial::load_signed(path, limits, keys) {
        Err(error) => report.refuse(error.problem(), "load"),
        Ok(trial) => {
            report.signed_by = trial.signed_by().map(|number| number.to_string());
            report.source(trial.file(), hex(&trial.file().sha256), trial.compile_time());
            let start_ms = clock::coarse_ms() + RUN_MAX_MS;
            run(&mut report, Subject { trial: &trial, spec, start_ms });
            report.says = trial.said();
        }
    }
    report
}

fn run(report: &mut Report, subject: Subject<'_>) {
    match Rig::new(subject) {
        Ok(rig) => {
            let (name, version) = rig.description();
            (report.name, report.version) = (Some(name.to_owned()), Some(version.to_owned()));
        }
        // It will not start in any scene either.
        Err(text) => return report.refuse(&text, "start"),
    }
    let mut tally = Tally::default();
    for scene in &SCENES {
        let (asked, played) = scene.play(subject);
        add(&mut tally, asked);
        note(report, scene.name, scene.promise, asked, played);
    }
    report.spread = measure(report, &mut tally, subject, "spread", spread);
    report.leaving = measure(report, &mut tally, subject, "leaving", leaving);
    replay(report, subject);
    report.memory = measure(report, &mut tally, subject, "memory", memory);
    for size in [10, 1_000] {
        let found = measure(report, &mut tally, subject, "cost", |rig| cost(rig, size));
        report.cost.extend(found);
    }
    judge_none(report, tally);
    tell_what_was_cut(report);
}

/// Plays a scene that measures something.
fn measure<T>(
    report: &mut Report,
    tally: &mut Tally,
    subject: Subject<'_>,
    name: &'static str,
    scene: impl FnMut(&mut Rig) -> Result<T, String>,
) -> Option<T> {
    let (asked, found) = subject.play(scene);
    add(tally, asked);
    found.map_err(|text| report.refuse(&text, name)).ok()
}

fn replay(report: &mut Report, subject: Subject<'_>) {
    let (asked, first) = subject.play(answers);
    let played = first.and_then(|first| Ok((first, subject.play(answers).1?)));
    // `zip` ends with the shorter list: the slower instance may have been asked less.
    if played.as_ref().is_ok_and(|(first, second)| first.iter().zip(second).any(|(first, second)| first != second)) {
        let text = "two instances that were told the same answer differently: after a fault, or on several proxies, \
                    clients are placed otherwise";
        report.notes.push(text.to_owned());
    }
    note(report, "replay", "takes the same configuration and servers again", asked, played.map(|_| ()));
}

fn memory(rig: &mut Rig) -> Result<Sizes, String> {
    let mut held = [0; 2];
    for (held, size) in held.iter_mut().zip([10, 10_000]) {
        rig.show(servers(0..size))?;
        rig.ask(super::rig::client(0), &[])?;
        *held = rig.memory_bytes().unwrap_or(0);
    }
    Ok(Sizes { with_10_servers: held[0], with_10000_servers: held[1] })
}

fn note(report: &mut Report, name: &'static str, promise: &'static str, asked: Tally, played: Result<(), String>) {
    report.checks.push(Check { name, promise, ok: played.is_ok(), picks: asked.picks });
    if let Err(text) = played {
        report.refuse(&text, name);
    }
}

fn judge_none(report: &mut Report, Tally { picks, none }: Tally) {
    if none == 0 {
        return;
    }
    let (none_text, picks_text) = (grouped(none), grouped(picks));
    if none == picks {
        let text = format!("pick answered none each of {picks_text} times although there were available servers");
        return report.refuse(&text, "all");
    }
    report.notes.push(format!(
        "pick answered none {none_text} of {picks_text} times although there were available servers: such clients are \
         turned away when there is no backup"
    ));
}

fn tell_what_was_cut(report: &mut Report) {
    let clients = report.spread.as_ref().map_or(CLIENTS_MAX.into(), |spread| spread.clients);
    if clients < u64::from(CLIENTS_MAX) {
        let (clients, wanted) = (grouped(clients), grouped(CLIENTS_MAX.into()));
        report.notes.push(format!("it is slow here, so only {clients} clients were spread instead of {wanted}"));
    }
}

fn add(sum: &mut Tally, asked: Tally) {
    sum.picks += asked.picks;
    sum.none += asked.none;
}
