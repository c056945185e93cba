//! The picture: 80 columns and 24 lines are what it is made for; more is used, and with less some of it is left out.

mod theme;
mod overview;
mod tables;
mod details;
mod dialogs;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::app::{App, Link, Tab};
use super::glyphs::Glyphs;
use super::text::{age, time_of_day};
use theme::Theme;

/// With fewer lines the overview gives way to the list.
const LINES_WITH_OVERVIEW: u16 = 18;

/// With less room there is no picture.
const SIZE_MIN: (u16, u16) = (40, 8);

/// Keys and what they do, as long as there is room.
const KEYS: [(&str, &str); 8] = [
    ("F1", "Help"),
    ("F2", "Glyphs"),
    ("F3", "Find"),
    ("F5", "Pause"),
    ("F6", "Sort"),
    ("F9", "Action"),
    ("Tab", "List"),
    ("F10", "Quit"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame, app: &mut App) {
    let area = frame.area();
    let theme = Theme { is_colored: app.is_colored };
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        let text = format!("{}x{} is too small; expected {}x{}", area.width, area.height, SIZE_MIN.0, SIZE_MIN.1);
        return frame.render_widget(Line::from(text), area);
    }
    let overview = if area.height < LINES_WITH_OVERVIEW { 0 } else { overview::LINES };
    let [title, summary, tabs, list, details, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(overview),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, app, theme, title);
    if overview > 0 {
        overview::draw(frame, app, theme, summary);
    }
    draw_tabs(frame, app, theme, tabs);
    tables::draw(frame, app, theme, list);
    details::draw(frame, app, theme, details);
    draw_keys(frame, app, theme, keys);
    dialogs::draw(frame, app, theme, area);
    if app.glyphs == Glyphs::Ascii {
        use_ascii(frame.buffer_mut());
    }
}

/// Replaces what a poor terminal cannot show, also of what others have written.
fn use_ascii(buffer: &mut Buffer) {
    for cell in buffer.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        cell.set_char(match cell.symbol() {
            "─" => '-',
            "│" => '|',
            "┌" | "┐" | "└" | "┘" => '+',
            "µ" => 'u',
            "…" => '~',
            _ => '?',
        });
    }
}

fn draw_title(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let state = &app.known().state;
    let process = &state.process;
    let mut left = vec![Span::styled("goproxy", theme.strong())];
    if state.at_ms > 0 {
        let up = process.started_ms.map(|started| state.at_ms.saturating_sub(started));
        left.push(Span::raw(format!(" {}  {}", process.version, app.addr)));
        left.push(Span::styled(up.map_or_else(String::new, |up| format!("  up {}", age(up))), theme.faint()));
        if !process.ready {
            left.push(Span::styled("  not ready", theme.bad()));
        }
    } else {
        left.push(Span::raw(format!("  {}", app.addr)));
    }
    frame.render_widget(Line::from(left), area);
    let (mark, text, style) = match &app.link {
        Link::Lost { since, .. } => {
            (app.glyphs.either("▲", "!"), format!("not connected for {} s", since.elapsed().as_secs()), theme.bad())
        }
        Link::Live if app.is_paused() => ("=", format!("paused at {}", time_of_day(state.at_ms)), theme.doubtful()),
        Link::Live if state.at_ms == 0 => ("", "connecting".to_owned(), theme.faint()),
        Link::Live => (app.glyphs.either("●", "*"), time_of_day(state.at_ms), theme.good()),
    };
    // Not a style of the line, which would be one of the whole row.
    frame.render_widget(Line::from(Span::styled(format!(" {mark} {text} "), style)).right_aligned(), area);
}

fn draw_tabs(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let known = app.known();
    let mut spans = Vec::new();
    for (at, tab) in Tab::ALL.into_iter().enumerate() {
        let number = match tab {
            Tab::Servers => known.state.servers.len(),
            Tab::Groups => known.state.groups.len(),
            Tab::Policies => known.state.policies.len(),
            Tab::Events => known.events.len(),
        };
        let style = if tab == app.tab { theme.chosen() } else { theme.plain() };
        spans.push(Span::styled(format!(" {} {} {number} ", at + 1, tab.name()), style));
        spans.push(Span::raw(" "));
    }
    frame.render_widget(Line::from(spans), area);
    let only = app.only.and_then(|group| known.state.groups.get(&group)).filter(|_| app.tab == Tab::Servers);
    let mut filters: Vec<String> = only.map(|group| format!("group {}", group.facts.group)).into_iter().collect();
    if !app.search.is_empty() && !app.is_searching {
        filters.push(format!("/{}", app.search));
    }
    if !app.marked.is_empty() {
        filters.push(format!("{} marked", app.marked.len()));
    }
    if !filters.is_empty() {
        let text = format!(" {} (Esc: all) ", filters.join(", "));
        frame.render_widget(Line::from(Span::styled(text, theme.doubtful())).right_aligned(), area);
    }
}

fn draw_keys(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let mut spans = Vec::new();
    for (key, does) in KEYS {
        let does = if key == "F5" && app.is_paused() { "Go on" } else { does };
        spans.push(Span::styled(key, theme.strong()));
        spans.push(Span::styled(format!("{does:<6}"), theme.key()));
        spans.push(Span::raw(" "));
    }
    frame.render_widget(Line::from(spans), area);
}
