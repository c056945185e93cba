//! Two lines under the list: everything about the row under the cursor, or what is typed and what came of it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::base::text::one_line;
use crate::top::app::{App, Link, Tab};
use crate::top::state::{Group, Policy, Server};
use crate::top::text::{age, micros, short};

/// The longest text, in characters; the screen cuts it anyway.
const TEXT_CHARS_MAX: usize = 500;

pub(super) fn draw(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let [first, second] = [area.y, area.y + 1].map(|y| Rect { y, height: 1, ..area });
    let [above, below] = about(app);
    frame.render_widget(Line::from(one_line(&above, TEXT_CHARS_MAX)), first);
    let line = match (&app.notice, &app.link) {
        _ if app.is_searching => Line::from(vec![
            Span::styled("/", theme.strong()),
            Span::raw(app.search.as_str()),
            Span::styled(" ", theme.chosen()),
            Span::styled("  Enter keeps it, Esc drops it", theme.faint()),
        ]),
        (Some(notice), _) => {
            let style = if notice.is_bad { theme.bad() } else { theme.good() };
            Line::styled(notice.text.as_str(), style)
        }
        (None, Link::Lost { why, .. }) => Line::styled(why.as_str(), theme.bad()),
        (None, Link::Live) => Line::styled(one_line(&below, TEXT_CHARS_MAX), theme.faint()),
    };
    frame.render_widget(line, second);
}

/// What is known of the row under the cursor.
fn about(app: &App) -> [String; 2] {
    let (known, chosen) = (app.known(), app.chosen());
    let state = &known.state;
    match (app.tab, chosen) {
        (_, None) => Default::default(),
        (Tab::Servers, Some(i)) => state
            .servers
            .get(&i)
            .map_or_else(Default::default, |server| server_lines(server, state.group_of(server), state.at_ms)),
        (Tab::Groups, Some(i)) => state.groups.get(&i).map_or_else(Default::default, group_lines),
        (Tab::Policies, Some(at)) => state.policies.get(at as usize).map_or_else(Default::default, policy_lines),
        (Tab::Events, Some(number)) => {
            let happening = known.events.iter().find(|happening| happening.number == number);
            happening.map_or_else(Default::default, |happening| [happening.rest.clone(), String::new()])
        }
    }
}

fn server_lines(server: &Server, group: &str, now_ms: u64) -> [String; 2] {
    let facts = &server.facts;
    let since = age(now_ms.saturating_sub(facts.since_ms));
    let cause = facts.cause.as_deref().map_or_else(String::new, |cause| format!(": {cause}"));
    let standing = if facts.online { "online" } else { "offline" };
    let above = format!("{} of {group}: {standing} for {since}{cause}", facts.addr);
    let mut below = vec![format!("weight {}", facts.weight)];
    if facts.backup {
        below.push("backup".to_owned());
    }
    if facts.sessions_max > 0 {
        below.push(format!("at most {} sessions", short(facts.sessions_max)));
    }
    if !facts.origin.is_empty() {
        below.push(format!("from {}", facts.origin));
    }
    if let Some(check) = &facts.check {
        let took = server.row[4].filter(|us| *us > 0).map_or_else(String::new, |us| format!(" in {}", micros(us)));
        let error = check.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        let result = if check.ok { "passed" } else { "failed" };
        below.push(format!("{} check {result}{took}{error}", check.kind));
    }
    [above, below.join(", ")]
}

fn group_lines(group: &Group) -> [String; 2] {
    let facts = &group.facts;
    let mut notes = vec![format!("{} refused in the last second", short(group.row[4].unwrap_or(0)))];
    if facts.sessions_max > 0 {
        notes.push(format!("at most {} sessions", short(facts.sessions_max)));
    }
    if let Some(fallback) = &facts.fallback {
        notes.push(format!("fallback {fallback}"));
    }
    if !facts.is_policy_well() {
        notes.push(format!("policy {}", facts.policy_state));
    }
    if facts.fail_open {
        notes.push("fail open: only checks keep its servers out, so they are tried".to_owned());
    }
    if facts.self_preservation {
        notes.push("self-preservation: most servers fell silent at once, so leases are kept".to_owned());
    }
    let above = format!("{} at {}, policy {}; Enter lists its servers", facts.group, facts.listen, facts.policy);
    [above, notes.join(", ")]
}

fn policy_lines(policy: &Policy) -> [String; 2] {
    let kind = if policy.kind == "wasm" { "a WebAssembly module" } else { "built in" };
    let above = format!("{}: {kind}", policy.name);
    [above, policy.error.clone().unwrap_or_default()]
}
