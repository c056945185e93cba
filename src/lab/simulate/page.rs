//! The results as a page.

use super::report::{Simulated, name};
use super::table::{heading, notes, rows};
use crate::config::Scenario;
use crate::lab::page::{over_time, section, shares, top};

/// What was simulated, the table, and of each policy the sessions of its servers over time and their shares.
pub fn page(scenario: &Scenario, policies: &[Vec<Simulated>], remarks: &[String]) -> String {
    let heading = heading(scenario, &policies[0][0], policies[0].len());
    let mut page = top("goproxy policy simulate", &heading, &rows(policies), &notes(scenario, policies, remarks));
    // The same scale for all, so that pictures can be compared.
    let highest = policies.iter().flat_map(|runs| runs[0].series.iter().flatten()).max().copied().unwrap_or(0).max(1);
    for run in policies.iter().map(|runs| &runs[0]) {
        let marks: Vec<(f64, &str)> = run.changes.iter().map(|change| (change.at, change.what.as_str())).collect();
        section(&mut page, &run.policy);
        over_time(&mut page, scenario.until, &run.series, highest, &marks);
        shares(&mut page, &run.share, name);
    }
    page
}
