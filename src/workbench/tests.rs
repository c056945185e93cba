//! How a report looks, and that the text of templates keeps its promises for any name.

use std::path::Path;

use super::report::{Report, Spread};
use super::style::Style;
use crate::policy::spec::{MODULE_NAME_LEN_MAX, ModuleSpec};

#[test]
fn bars_and_colors_are_for_terminals() {
    let mut report = Report::new(Path::new("x.wasm"), &ModuleSpec::new("x"));
    report.spread = Some(Spread { clients: 30, servers: vec![20, 10] });
    report.refuse("x.wasm: pick failed: it did", "sizes");
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
        let trial = crate::policy::wasm::trial::Trial::load(&path, 8 << 20).unwrap();
        let made = trial.policy(&ModuleSpec::new(name), 1).unwrap();
        assert_eq!((made.name.as_str(), made.version.as_str()), (name, "0.1.0"));
    }
}
