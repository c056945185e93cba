//! What came of a reload, for those who watch.

use std::path::Path;

use super::ChangeError;
use super::difference::Difference;
use crate::counters::ProcessCounters;
use crate::events::{self, ConfigEvent, Event};

/// Mistakes of one file that the log tells; the answer to a request has all of them.
const MISTAKES_TOLD_MAX: usize = 20;

/// Counts and tells what came of a reload.
pub(super) fn tell(counters: &ProcessCounters, path: &Path, outcome: &Result<Difference, ChangeError>, is_asked: bool) {
    let tell = |event| events::publish(Event::Config(event));
    match outcome {
        Ok(difference) if difference.is_empty() => {
            if !counters.is_last_reload_good() {
                // The mistake was taken back: what runs is what the file says again.
                counters.reload_succeeded(counters.config_generation());
                tell(ConfigEvent::InOrderAgain);
            } else {
                tell(if is_asked { ConfigEvent::NothingToDo } else { ConfigEvent::Unchanged });
            }
        }
        Ok(difference) => {
            let Difference { opened, closed, changed, settings, changes, .. } = difference;
            tell(ConfigEvent::Reloaded {
                opened: texts(opened),
                closed: texts(closed),
                changed: texts(changed),
                settings: texts(settings),
                changes: texts(changes),
            });
            for setting in &difference.at_restart {
                tell(ConfigEvent::AtRestart { setting: setting.as_str().into() });
            }
        }
        Err(error) => {
            let why = error.to_string();
            counters.reload_failed(&why);
            tell(ConfigEvent::Refused { error: why.into() });
            if let ChangeError::FileInvalid { problems, .. } = error {
                for problem in problems.iter().take(MISTAKES_TOLD_MAX) {
                    tell(ConfigEvent::Mistake { problem: problem.in_file(path).to_string().into() });
                }
            }
        }
    }
}

fn texts(items: &[impl ToString]) -> Box<[Box<str>]> {
    items.iter().map(|item| item.to_string().into()).collect()
}
