//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::{App, Change, Dialog, Notice, Tab, Wanted};
use super::listing::{GROUP_COLUMNS, SERVER_COLUMNS};

/// The longest text to search for, in characters.
const SEARCH_CHARS_MAX: usize = 64;

/// What a key asks of others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    /// Ctrl-Z: the shell comes back for a while.
    Suspend,
    /// The operator has confirmed it.
    Ask(Change),
}

impl App {
    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                KeyCode::Char('z') => Wish::Suspend,
                _ => Wish::Nothing,
            };
        }
        match self.dialog.take() {
            Some(dialog) => self.key_in_dialog(dialog, key.code),
            None if self.is_searching && self.key_in_search(key.code) => Wish::Nothing,
            None => self.key_in_list(key.code),
        }
    }

    fn key_in_dialog(&mut self, dialog: Dialog, code: KeyCode) -> Wish {
        match (dialog, code) {
            (Dialog::Confirm(change), KeyCode::Char('y' | 'Y')) => {
                self.marked.clear();
                return Wish::Ask(change);
            }
            (Dialog::Menu, KeyCode::Char('d')) => self.confirm(Wanted::Drain),
            (Dialog::Menu, KeyCode::Char('r')) => self.confirm(Wanted::Ready),
            (Dialog::Menu, KeyCode::Char('m')) => self.confirm(Wanted::Maint),
            (_, KeyCode::F(10)) => return Wish::Quit,
            // Any other key only closes it.
            _ => {}
        }
        Wish::Nothing
    }

    /// False for a key that has nothing to do with the text.
    fn key_in_search(&mut self, code: KeyCode) -> bool {
        match code {
            KeyCode::Char(c) if self.search.chars().count() < SEARCH_CHARS_MAX => self.search.push(c),
            KeyCode::Char(_) => {}
            KeyCode::Backspace => _ = self.search.pop(),
            KeyCode::Enter => self.is_searching = false,
            KeyCode::Esc => {
                self.search.clear();
                self.is_searching = false;
            }
            _ => return false,
        }
        self.list();
        true
    }

    fn key_in_list(&mut self, code: KeyCode) -> Wish {
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        match code {
            KeyCode::Char('q') | KeyCode::F(10) => return Wish::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(page),
            KeyCode::PageUp => self.move_by(-page),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            KeyCode::Home | KeyCode::Char('g') => {
                self.cursors[self.tab as usize].chosen = None;
                self.list();
            }
            KeyCode::Tab | KeyCode::Right => self.turn_to(Tab::ALL[(self.tab as usize + 1) % 4]),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(Tab::ALL[(self.tab as usize + 3) % 4]),
            KeyCode::Char(c @ '1'..='4') => self.turn_to(Tab::ALL[c as usize - '1' as usize]),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.dialog = Some(Dialog::Help),
            KeyCode::F(2) => self.glyphs = self.glyphs.next(),
            KeyCode::Char('/') | KeyCode::F(3) => self.is_searching = true,
            KeyCode::Char('p') | KeyCode::F(5) => self.pause(),
            KeyCode::Char('s') | KeyCode::F(6) => self.sort(false),
            KeyCode::Char('S') => self.sort(true),
            KeyCode::Char(' ') => self.mark(),
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.clear(),
            KeyCode::Char('d') => self.confirm(Wanted::Drain),
            KeyCode::Char('r') => self.confirm(Wanted::Ready),
            KeyCode::Char('m') => self.confirm(Wanted::Maint),
            KeyCode::F(9) => self.menu(),
            _ => {}
        }
        Wish::Nothing
    }

    fn move_by(&mut self, rows: isize) {
        let last = self.rows.len().saturating_sub(1);
        let cursor = &mut self.cursors[self.tab as usize];
        cursor.row = cursor.row.saturating_add_signed(rows).min(last);
        cursor.chosen = self.rows.get(cursor.row).copied();
    }

    fn turn_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.list();
    }

    /// Sorts by the next column, or the other way round.
    fn sort(&mut self, turns_around: bool) {
        let (at, columns) = match self.tab {
            Tab::Servers => (0, SERVER_COLUMNS.len()),
            Tab::Groups => (1, GROUP_COLUMNS.len()),
            Tab::Policies | Tab::Events => return,
        };
        let sort = &mut self.sorts[at];
        match turns_around {
            true => sort.is_reversed = !sort.is_reversed,
            false => *sort = sort.next(columns),
        }
        self.list();
    }

    fn mark(&mut self) {
        if self.tab != Tab::Servers {
            return;
        }
        if let Some(chosen) = self.chosen() {
            if !self.marked.remove(&chosen) {
                self.marked.insert(chosen);
            }
            self.move_by(1);
        }
    }

    /// From a group to its servers.
    fn enter(&mut self) {
        if self.tab == Tab::Groups
            && let Some(group) = self.chosen()
        {
            self.only = Some(group);
            self.search.clear();
            self.cursors[Tab::Servers as usize].chosen = None;
            self.turn_to(Tab::Servers);
        }
    }

    /// Shows everything again.
    fn clear(&mut self) {
        self.search.clear();
        self.only = None;
        self.marked.clear();
        self.list();
    }

    fn menu(&mut self) {
        match self.targets().is_empty() {
            true => self.no_server(),
            false => self.dialog = Some(Dialog::Menu),
        }
    }

    fn confirm(&mut self, wanted: Wanted) {
        let servers = self.targets();
        match servers.is_empty() {
            true => self.no_server(),
            false => self.dialog = Some(Dialog::Confirm(Change { wanted, servers })),
        }
    }

    fn no_server(&mut self) {
        let text = "no server is chosen; drain, ready and maint are for the list of servers (1)".to_owned();
        self.notice = Some(Notice { text, is_bad: true });
    }
}
