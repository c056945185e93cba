//! What stands in front of the list: help, and the question before a change.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::theme::Theme;
use crate::base::text::{count, grouped, one_line};
use crate::top::app::{App, Change, Dialog, Target, Wanted};

/// Servers that are listed before a change; of more, their number.
const LISTED_MAX: usize = 8;

const ADDR_CHARS_MAX: usize = 50;

const HELP: [(&str, &str); 14] = [
    ("1 2 3 4, Tab", "servers, groups, policies, events"),
    ("arrows, j k", "move; PgUp PgDn, Home End, g G"),
    ("Enter", "of a group: its servers"),
    ("/, F3", "find: what a row has to hold"),
    ("s, F6", "sort by the next column"),
    ("S", "the other way round"),
    ("Space", "mark servers for one change"),
    ("d", "drain: no new sessions"),
    ("m", "maint: out of service"),
    ("r", "ready: in service again"),
    ("p, F5", "pause, and go on"),
    ("F2", "other characters for graphs"),
    ("Esc", "show everything again"),
    ("q, F10", "quit"),
];

pub(super) fn draw(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    match &app.dialog {
        None => {}
        Some(Dialog::Help) => {
            let line = |(keys, does): (&'static str, &'static str)| {
                Line::from(vec![Span::styled(format!("{keys:<14}"), theme.strong()), Span::raw(does)])
            };
            show(frame, area, theme, "Keys", HELP.into_iter().map(line).collect());
        }
        Some(Dialog::Menu) => {
            let what = about(&app.targets());
            let line = |key: &'static str, does: &'static str| {
                Line::from(vec![Span::styled(format!("{key}  "), theme.strong()), Span::raw(does)])
            };
            let lines = vec![
                line("d", "drain: no new sessions, those it has go on"),
                line("m", "maint: out of service"),
                line("r", "ready: in service again"),
            ];
            show(frame, area, theme, &what, lines);
        }
        Some(Dialog::Confirm(change)) => confirm(frame, area, theme, change),
    }
}

fn confirm(frame: &mut Frame, area: Rect, theme: Theme, change: &Change) {
    let servers = &change.servers;
    let title = format!("{} {}", verb(change.wanted), about(servers));
    let mut lines = Vec::new();
    if servers.len() > 1 {
        let line = |target: &Target| Line::raw(format!("{} of {}", shown(&target.addr), shown(&target.group)));
        lines.extend(servers.iter().take(LISTED_MAX).map(line));
        if servers.len() > LISTED_MAX {
            lines.push(Line::raw(format!("and {} more", servers.len() - LISTED_MAX)));
        }
        lines.push(Line::default());
    }
    let sessions: u64 = servers.iter().map(|target| target.sessions).sum();
    lines.extend(consequence(change.wanted, sessions).into_iter().map(Line::raw));
    lines.push(Line::default());
    lines.push(Line::from(vec![
        Span::styled(" y ", theme.key()),
        Span::raw(format!(" {}    ", change.wanted.as_str())),
        Span::styled(" any other key ", theme.key()),
        Span::raw(" leave it as it is"),
    ]));
    show(frame, area, theme, &title, lines);
}

fn verb(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Ready => "Take into service:",
        Wanted::Drain => "Drain",
        Wanted::Maint => "Take out of service:",
    }
}

fn about(servers: &[Target]) -> String {
    match servers {
        [one] => format!("{} of {}", shown(&one.addr), shown(&one.group)),
        more => count(more.len(), "server"),
    }
}

fn shown(text: &str) -> String {
    one_line(text, ADDR_CHARS_MAX)
}

/// What happens then.
fn consequence(wanted: Wanted, sessions: u64) -> Vec<String> {
    let sessions = match sessions {
        0 => "There is no session to go on".to_owned(),
        1 => "1 session goes on".to_owned(),
        more => format!("{} sessions go on", grouped(more)),
    };
    match wanted {
        Wanted::Ready => vec!["New sessions come as soon as it is online.".to_owned()],
        Wanted::Drain => vec![format!("{sessions}; no new ones come.")],
        Wanted::Maint => {
            vec![format!("No new sessions come. {sessions},"), "unless on_down of the group closes them.".to_owned()]
        }
    }
}

/// A box in the middle.
fn show(frame: &mut Frame, area: Rect, theme: Theme, title: &str, lines: Vec<Line<'_>>) {
    let title = format!(" {title} ");
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(title.chars().count());
    let width = u16::try_from(widest + 4).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block =
        Block::bordered().title(Line::styled(title, theme.strong())).padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
