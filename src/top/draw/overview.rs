//! The process as a whole: what it does, how that went lately, and whether its file is in force.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::base::text::{count, grouped, one_line};
use crate::top::app::App;
use crate::top::state::{Server, Standing, State};
use crate::top::text::{age, bytes};

/// Two rows of two graphs, and a line of words.
pub(super) const LINES: u16 = 5;

/// The columns before a graph.
const LABEL_COLUMNS: u16 = 20;

/// What a graph is of: its name, and what is said under it.
const NAMES: [&str; 4] = ["Sessions", "New", "Up", "Down"];

pub(super) fn draw(frame: &mut Frame, app: &App, theme: Theme, area: Rect) {
    let [first, second, words] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(2), Constraint::Length(1)]).areas(area);
    for (line, [left, right]) in [(first, [0, 1]), (second, [2, 3])] {
        let [left_area, right_area] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(line);
        draw_graph(frame, app, theme, left, left_area);
        draw_graph(frame, app, theme, right, right_area);
    }
    draw_words(frame, &app.known().state, theme, words);
}

fn draw_graph(frame: &mut Frame, app: &App, theme: Theme, which: usize, area: Rect) {
    let known = app.known();
    let value = known.state.totals[which];
    let shown = |show: &dyn Fn(u64) -> String| value.map_or_else(|| "-".to_owned(), show);
    let (value, note) = match which {
        0 => (shown(&grouped), format!("of {}", grouped(known.state.process.sessions_max))),
        1 => (shown(&|rate| format!("{}/s", grouped(rate))), "sessions".to_owned()),
        2 => (shown(&|up| format!("{}/s", bytes(up))), "to servers".to_owned()),
        _ => (shown(&|down| format!("{}/s", bytes(down))), "to clients".to_owned()),
    };
    let [label, graph] = Layout::horizontal([Constraint::Length(LABEL_COLUMNS), Constraint::Fill(1)]).areas(area);
    let name = NAMES[which];
    let room = usize::from(LABEL_COLUMNS) - name.len() - 1;
    let lines = [
        Line::from(vec![Span::raw(name), Span::styled(format!("{value:>room$} "), theme.strong())]),
        Line::styled(format!("{note:>width$} ", width = usize::from(LABEL_COLUMNS) - 1), theme.faint()),
    ];
    let rows = app.glyphs.graph(&known.past.series[which], usize::from(graph.width), 2);
    for (at, (line, row)) in lines.into_iter().zip(rows).enumerate() {
        let at = at as u16;
        frame.render_widget(line, Rect { y: label.y + at, height: 1, ..label });
        frame.render_widget(Line::styled(row, theme.graph()), Rect { y: graph.y + at, height: 1, ..graph });
    }
}

fn draw_words(frame: &mut Frame, state: &State, theme: Theme, area: Rect) {
    if state.at_ms == 0 {
        return;
    }
    let (online, servers) = state.online();
    let is_offline = |server: &Server| server.facts.standing() == Standing::Offline;
    let style = match state.servers.values().any(is_offline) {
        true => theme.bad(),
        // Those that are not online are so by somebody's will.
        false if online < servers => theme.doubtful(),
        false => theme.good(),
    };
    let mut spans = vec![Span::styled(format!("{online} of {} online", count(servers, "server")), style)];
    let notes = [
        (state.groups.values().filter(|group| !group.facts.open).count(), "closed"),
        (state.groups.values().filter(|group| group.facts.fail_open).count(), "fail open"),
        (state.groups.values().filter(|group| group.facts.self_preservation).count(), "in self-preservation"),
    ];
    for (groups, what) in notes.into_iter().filter(|(groups, _)| *groups > 0) {
        spans.push(Span::styled(format!("   {} {what}", count(groups, "group")), theme.bad()));
    }
    let in_trouble = state.policies.iter().filter(|policy| !policy.is_well()).count();
    if in_trouble > 0 {
        spans.push(Span::styled(format!("   policies in trouble: {in_trouble}"), theme.bad()));
    }
    let reload = &state.process.reload;
    match &reload.error {
        Some(error) => {
            let error = one_line(error, usize::from(area.width));
            spans.push(Span::styled(format!("   reload refused: {error}"), theme.bad()));
        }
        None if reload.loaded_ms > 0 => {
            let ago = age(state.at_ms.saturating_sub(reload.loaded_ms));
            spans.push(Span::styled(format!("   proxy.json loaded {ago} ago"), theme.faint()));
        }
        None => {}
    }
    frame.render_widget(Line::from(spans), area);
}
