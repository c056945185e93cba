//! The lists: only the rows that the screen has room for are made.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use super::theme::Theme;
use crate::base::text::one_line;
use crate::top::app::{App, Known, Tab};
use crate::top::glyphs::Glyphs;
use crate::top::happening::{Happening, Level};
use crate::top::listing::{GROUP_COLUMNS, SERVER_COLUMNS, Sort};
use crate::top::state::{Group, Policy, Server, State};
use crate::top::text::{bytes, micros, short};

/// What a table may show of a text, in characters; the screen cuts it anyway.
const TEXT_CHARS_MAX: usize = 300;

/// With so many columns, shares are also shown as bars.
const COLUMNS_WITH_BARS: u16 = 110;
const BAR_COLUMNS: u16 = 10;

/// What all rows have in common.
#[derive(Clone, Copy)]
struct Style {
    theme: Theme,
    glyphs: Glyphs,
    has_bars: bool,
}

pub(super) fn draw(frame: &mut Frame, app: &mut App, theme: Theme, area: Rect) {
    let page = usize::from(area.height.saturating_sub(1));
    app.page = page;
    let cursor = &mut app.cursors[app.tab as usize];
    cursor.first = cursor.first.min(cursor.row).max((cursor.row + 1).saturating_sub(page));
    // Where rows have become fewer, none is left empty.
    cursor.first = cursor.first.min(app.rows.len().saturating_sub(page));
    let (first, chosen) = (cursor.first, cursor.row);
    let visible: Vec<u32> = app.rows.iter().skip(first).take(page).copied().collect();
    let style = Style { theme, glyphs: app.glyphs, has_bars: area.width >= COLUMNS_WITH_BARS };
    let known = app.known();
    let (header, widths, rows) = match app.tab {
        Tab::Servers => servers(&known.state, &visible, app, style),
        Tab::Groups => groups(&known.state, &visible, app.sorts[1], style),
        Tab::Policies => policies(&known.state, &visible, style),
        Tab::Events => events(known, &visible, style),
    };
    if rows.is_empty() {
        let text = nothing(app);
        let below = Rect { y: area.y + 1.min(area.height - 1), height: 1, ..area };
        frame.render_widget(Line::styled(text, theme.faint()), below);
    }
    let rows = rows.into_iter().enumerate().map(|(at, row)| match first + at == chosen {
        true => row.style(theme.chosen()),
        false => row,
    });
    let table = Table::new(rows, widths).header(header.style(theme.header())).column_spacing(1);
    frame.render_widget(table, area);
}

/// Why there is no row.
fn nothing(app: &App) -> &'static str {
    match app.tab {
        _ if app.known().state.at_ms == 0 => "waiting for the first frame",
        _ if !app.search.is_empty() => "nothing that matches; Esc shows everything",
        Tab::Servers => "no server; they register themselves or stand in proxy.json",
        Tab::Groups => "no group; groups stand in proxy.json",
        Tab::Policies => "no policy is used",
        Tab::Events => "nothing has happened",
    }
}

type Parts<'a> = (Row<'a>, Vec<Constraint>, Vec<Row<'a>>);

/// A header that shows how the list is sorted. Columns from `numbers` on are aligned as numbers are, as long as they are some.
fn header<'a>(names: &[&'a str], sort: Option<Sort>, is_number: impl Fn(usize) -> bool, glyphs: Glyphs) -> Row<'a> {
    let cells = names.iter().enumerate().map(|(at, name)| {
        let sort = sort.filter(|sort| sort.column == at);
        let mark = sort.map_or("", |sort| match sort.is_reversed {
            true => glyphs.either("▴", "^"),
            false => glyphs.either("▾", "v"),
        });
        let text = format!("{name}{mark}");
        if is_number(at) { number(text) } else { Cell::from(text) }
    });
    Row::new(cells.collect::<Vec<_>>())
}

fn number<'a>(text: impl Into<std::borrow::Cow<'a, str>>) -> Cell<'a> {
    Cell::from(Line::raw(text.into()).right_aligned())
}

fn known(value: Option<u64>, show: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn cut(text: &str) -> String {
    one_line(text, TEXT_CHARS_MAX)
}

/// As wide as the widest of `texts`, within bounds.
fn width<'a>(texts: impl Iterator<Item = &'a str>, min: usize, max: usize) -> Constraint {
    let widest = texts.map(|text| text.chars().count()).max().unwrap_or(0).clamp(min, max);
    Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
}

fn servers<'a>(state: &'a State, visible: &[u32], app: &App, style: Style) -> Parts<'a> {
    let servers: Vec<(u32, &Server)> = visible.iter().filter_map(|i| Some((*i, state.servers.get(i)?))).collect();
    let (theme, glyphs) = (style.theme, style.glyphs);
    let rows = servers.iter().map(|(i, server)| {
        let facts = &server.facts;
        let standing = facts.standing();
        let [sessions, rate, share, connect_us, _] = server.row;
        let mark = if app.marked.contains(i) { glyphs.either("✓", "+") } else { " " };
        let share = match (share, style.has_bars) {
            (Some(share), true) => Cell::from(Line::from(vec![
                Span::raw(format!("{share:>3}% ")),
                Span::styled(glyphs.bar(share, 100, usize::from(BAR_COLUMNS)), theme.graph()),
            ])),
            (share, _) => number(known(share, |share| format!("{share}%"))),
        };
        let backup = if facts.backup { "backup " } else { "" };
        Row::new(vec![
            Cell::from(Span::styled(format!("{mark}{}", cut(state.group_of(server))), theme.plain())),
            Cell::from(cut(&facts.addr)),
            Cell::from(Span::styled(
                format!("{} {}", glyphs.mark(standing), standing.word()),
                theme.standing(standing),
            )),
            number(known(sessions, short)),
            number(known(rate, short)),
            share,
            number(known(connect_us, micros)),
            Cell::from(format!("{backup}{}", cut(facts.cause.as_deref().unwrap_or_default()))),
        ])
    });
    let rows = rows.collect();
    let names = servers.iter().map(|(_, server)| state.group_of(server));
    let addrs = servers.iter().map(|(_, server)| server.facts.addr.as_str());
    let is_wide = style.has_bars;
    let widths = vec![
        // One more for the mark.
        match width(names, 5, if is_wide { 23 } else { 11 }) {
            Constraint::Length(length) => Constraint::Length(length + 1),
            other => other,
        },
        width(addrs, 14, if is_wide { 48 } else { 22 }),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(if is_wide { BAR_COLUMNS + 5 } else { 6 }),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let mut columns = SERVER_COLUMNS;
    columns[0] = " GROUP";
    let is_number = move |at: usize| matches!(at, 3 | 4 | 6) || (at == 5 && !is_wide);
    (header(&columns, Some(app.sorts[0]), is_number, glyphs), widths, rows)
}

fn groups<'a>(state: &'a State, visible: &[u32], sort: Sort, style: Style) -> Parts<'a> {
    let groups: Vec<&Group> = visible.iter().filter_map(|i| state.groups.get(i)).collect();
    let (theme, glyphs) = (style.theme, style.glyphs);
    let rows = groups.iter().map(|group| {
        let facts = &group.facts;
        let [sessions, rate, up, down, _] = group.row;
        let (word, state_style) = match facts {
            facts if !facts.open => ("closed", theme.bad()),
            _ if group.servers.0 == 0 => ("no server", theme.bad()),
            facts if facts.fail_open => ("fail open", theme.bad()),
            facts if facts.self_preservation => ("preserved", theme.doubtful()),
            _ => ("open", theme.good()),
        };
        let mark = if word == "open" { glyphs.either("●", "*") } else { glyphs.either("▲", "!") };
        let policy_style = if facts.is_policy_well() { theme.plain() } else { theme.bad() };
        let is_whole = group.servers.0 == group.servers.1;
        let online = format!("{}/{}", group.servers.0, group.servers.1);
        let online_style = if is_whole { theme.plain() } else { theme.bad() };
        Row::new(vec![
            Cell::from(cut(&facts.group)),
            Cell::from(Span::styled(format!("{mark} {word}"), state_style)),
            Cell::from(Span::styled(cut(&facts.policy), policy_style)),
            Cell::from(Line::styled(online, online_style).right_aligned()),
            number(known(sessions, short)),
            number(known(rate, short)),
            number(known(up, bytes)),
            number(known(down, bytes)),
        ])
    });
    let rows = rows.collect();
    let is_wide = style.has_bars;
    let widths = vec![
        width(groups.iter().map(|group| group.facts.group.as_str()), 8, if is_wide { 30 } else { 14 }),
        Constraint::Length(11),
        width(groups.iter().map(|group| group.facts.policy.as_str()), 12, if is_wide { 30 } else { 16 }),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    (header(&GROUP_COLUMNS, Some(sort), |at| at > 2, glyphs), widths, rows)
}

fn policies<'a>(state: &'a State, visible: &[u32], style: Style) -> Parts<'a> {
    const COLUMNS: [&str; 8] = ["POLICY", "STATE", "VERSION", "GROUPS", "CALLS", "FAULTS", "FALLBACKS", "COST"];
    let policies: Vec<&Policy> = visible.iter().filter_map(|at| state.policies.get(*at as usize)).collect();
    let theme = style.theme;
    let rows = policies.iter().map(|policy| {
        let is_well = policy.is_well();
        let mark = if is_well { style.glyphs.either("●", "*") } else { style.glyphs.either("▲", "!") };
        let word = if policy.kind == "built_in" { "built in" } else { policy.state.as_str() };
        let state_style = if is_well { theme.good() } else { theme.bad() };
        let of_faults = |faults: Option<u64>| match faults {
            Some(1..) => theme.bad(),
            _ => theme.plain(),
        };
        let bad_number =
            |value: Option<u64>| Cell::from(Line::styled(known(value, short), of_faults(value)).right_aligned());
        Row::new(vec![
            Cell::from(cut(&policy.name)),
            Cell::from(Span::styled(format!("{mark} {}", cut(word)), state_style)),
            Cell::from(cut(policy.version.as_deref().unwrap_or("-"))),
            number(short(policy.groups)),
            number(known(policy.calls, short)),
            bad_number(policy.faults),
            bad_number(policy.fallbacks),
            number(known(policy.cost_ns, cost)),
        ])
    });
    let rows = rows.collect();
    let widths = vec![
        width(policies.iter().map(|policy| policy.name.as_str()), 12, 24),
        Constraint::Length(13),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(7),
    ];
    (header(&COLUMNS, None, |at| at > 2, style.glyphs), widths, rows)
}

/// What a call takes.
fn cost(ns: u64) -> String {
    if ns < 1_000 { format!("{ns} ns") } else { micros(ns / 1_000) }
}

fn events<'a>(known: &'a Known, visible: &[u32], style: Style) -> Parts<'a> {
    let theme = style.theme;
    // Both are newest first.
    let mut wanted = visible.iter().peekable();
    let is_wanted = |happening: &&Happening| wanted.next_if(|number| **number == happening.number).is_some();
    let happenings: Vec<&Happening> = known.events.iter().filter(is_wanted).collect();
    let rows = happenings.iter().map(|happening| {
        let event_style = match happening.level {
            Level::Info => theme.plain(),
            Level::Warn => theme.doubtful(),
            Level::Error => theme.bad(),
        };
        Row::new(vec![
            Cell::from(Span::styled(happening.time.as_str(), theme.faint())),
            Cell::from(Span::styled(happening.event.as_str(), event_style)),
            Cell::from(happening.group.as_str()),
            Cell::from(happening.server.as_str()),
            Cell::from(happening.rest.as_str()),
        ])
    });
    let rows = rows.collect();
    let widths = vec![
        Constraint::Length(8),
        width(happenings.iter().map(|happening| happening.event.as_str()), 14, 22),
        width(happenings.iter().map(|happening| happening.group.as_str()), 5, 12),
        width(happenings.iter().map(|happening| happening.server.as_str()), 6, 22),
        Constraint::Fill(1),
    ];
    (header(&["TIME", "EVENT", "GROUP", "SERVER", "WHAT"], None, |_| false, style.glyphs), widths, rows)
}
