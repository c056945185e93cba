//! The text of `/metrics`, in the classic Prometheus format or as OpenMetrics.
//!
//! Nothing is registered and nothing is kept: a scrape is rendered from what the groups and the modules show
//! at that moment, so a series is there exactly as long as its server, its group or its module is. Names begin
//! with `goproxy_` and values are in base units; labels are `group`, `server`, `policy`, `reason`, `limit`, `result` and `name`, each of
//! bounded variety, and `version` and `sha256` on the lines that say what was built or loaded. Counting is left to
//! [`crate::counters`]; a figure that the system does not give is left out. With a thousand groups of ten servers the text
//! has megabytes, so what cannot be anything but zero is left out as well.

mod families;
mod figures;
mod format;
mod groups;
mod modules;
mod process;
mod servers;
mod tls;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::control::Control;
use crate::group::Group;
use families::Families;
use figures::ProcessFigures;
pub use format::Format;
use groups::GroupSample;
use process::ProcessSample;

/// When the process started, in seconds since 1970, where the system tells.
pub(crate) fn start_time_seconds() -> Option<f64> {
    ProcessFigures::read().start_time_seconds
}

/// All metrics of what runs, or those of one group and its servers. May take a while: with thousands of servers the text has
/// megabytes.
pub fn of(control: &Control, only: Option<&Group>, format: Format) -> String {
    let scrape = Scrape {
        groups: match only {
            Some(group) => vec![GroupSample::of(group)],
            None => control.groups().values().map(|group| GroupSample::of(group)).collect(),
        },
        process_has_rate: control.sessions().limits().has_rate(),
        process: only.is_none().then(|| ProcessSample::of(control)),
    };
    let text = render(scrape);
    match format {
        Format::OpenMetrics => text,
        Format::Text => format::to_classic(&text),
    }
}

/// The whole text as OpenMetrics, `# EOF` included.
fn render(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("goproxy");
    registry.register_collector(Box::new(scrape));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes whatever is written");
    out
}

/// What is known at one scrape.
#[derive(Debug)]
struct Scrape {
    groups: Vec<GroupSample>,
    /// New sessions of the process are limited.
    process_has_rate: bool,
    /// `None` when only a group is asked for.
    process: Option<ProcessSample>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        groups::write(&self.groups, self.process_has_rate, &mut families)?;
        servers::write(&self.groups, &mut families)?;
        tls::write(&self.groups, &mut families)?;
        let Some(process) = &self.process else { return Ok(()) };
        modules::write(&process.modules, &mut families)?;
        process.write(&mut families)
    }
}

#[cfg(test)]
mod tests;
