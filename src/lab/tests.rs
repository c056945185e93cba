//! How a report looks, and that the text of templates keeps its promises for any name.

use std::path::Path;

use super::report::{Report, Spread};
use super::rig::{Subject, client, servers};
use crate::base::clock;
use crate::base::terminal::Style;
use crate::policy::spec::{MODULE_NAME_LEN_MAX, ModuleSpec};
use crate::policy::wasm::guests::{self, Parts};
use crate::policy::wasm::trial::Trial;

#[test]
fn bars_and_colors_are_for_terminals() {
    let mut report = Report::new(Path::new("x.wasm"), &ModuleSpec::new("x"));
    report.spread = Some(Spread { clients: 30, servers: vec![20, 10] });
    report.refuse("pick failed: it did", "sizes");
    report.refuse("pick failed: it did", "spread");
    let plain = report.text(Style::default());
    assert!(plain.contains("30 clients over 2 servers: 20 10\n") && !plain.contains(['█', '\x1b']), "{plain}");
    let bars = report.text(Style { is_terminal: true, is_colored: false });
    assert!(bars.contains(&format!(" 1 {} 20\n", "█".repeat(40))) && !bars.contains('\x1b'), "{bars}");
    assert!(bars.contains(&format!(" 2 {} 10\n", "█".repeat(20))), "{bars}");
    assert!(report.text(Style { is_terminal: true, is_colored: true }).contains("\x1b[31munfit"));
    assert_eq!(report.complaints().collect::<Vec<_>>(), ["x.wasm: pick failed: it did (in sizes, spread)"]);
}

#[test]
fn a_generated_text_describes_itself_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", &"x".repeat(MODULE_NAME_LEN_MAX), "with-a_dash"] {
        let path = super::create(folder.path(), name, super::Lang::Wat).unwrap();
        let trial = Trial::load(&path, 8 << 20).unwrap();
        let made = trial.policy(&ModuleSpec::new(name), 1).unwrap();
        assert_eq!((made.name.as_str(), made.version.as_str()), (name, "0.1.0"));
    }
}

#[test]
fn a_module_that_was_too_slow_is_given_two_more_chances() {
    let slow_at_retries = format!("(if (local.get $attempt) (then (loop $ever (br $ever)))) {}", Parts::default().pick);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slow.wat");
    std::fs::write(&path, guests::policy(Parts { pick: &slow_at_retries, ..Parts::default() })).unwrap();
    let (trial, spec) = (Trial::load(&path, 8 << 20).unwrap(), ModuleSpec::new("slow"));
    let subject = Subject { trial: &trial, spec: &spec, start_ms: clock::coarse_ms() };
    let play = |slow_times: usize| {
        let mut times = 0;
        let (asked, played) = subject.play(|rig| {
            times += 1;
            rig.show(servers(0..3))?;
            let tried = [rig.servers()[2].id];
            rig.ask(client(0), if times <= slow_times { &tried } else { &[] })
        });
        (times, played.is_ok(), asked.picks)
    };
    assert_eq!((play(0), play(2)), ((1, true, 1), (3, true, 1)));
    assert_eq!(play(3), (3, false, 0));
}
