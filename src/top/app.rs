//! What `top` knows and what it shows of it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::glyphs::Glyphs;
use super::happening::Happening;
use super::listing::{self, Sort};
use super::state::{Server, State};
use crate::admin_client::{AskError, Message, Told};
use crate::base::text::one_line;

/// How many seconds graphs go back.
const SECONDS_MAX: usize = 600;

/// Events that are kept: a thousand is what the proxy keeps.
const EVENTS_MAX: usize = 1_000;

/// The longest text of an error that is kept, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) past: Past,
    /// Newest first.
    pub(super) events: VecDeque<Happening>,
}

/// The totals of the last seconds, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Sessions, rate, up, down.
    pub(super) series: [Vec<u64>; 4],
}

/// Whether what is shown is what is.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// A frame has just come, or is about to.
    Live,
    /// None comes, for this reason.
    Lost { why: String, since: Instant },
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Servers,
    Groups,
    Policies,
    Events,
}

/// Where one is in a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// What was chosen, which stays chosen wherever it is moved. `None` for whatever stands first.
    pub(super) chosen: Option<u32>,
    /// Its row.
    pub(super) row: usize,
    /// The first row on the screen.
    pub(super) first: usize,
}

/// What stands in front of the list.
#[derive(Clone, Debug)]
pub(super) enum Dialog {
    Help,
    /// Which change?
    Menu,
    /// Really?
    Confirm(Change),
}

/// What an operator wants of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) wanted: Wanted,
    pub(super) servers: Vec<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Ready,
    Drain,
    Maint,
}

/// A server that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) addr: String,
    pub(super) sessions: u64,
}

/// Something to say, until the next key.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// Everything.
#[derive(Debug)]
pub(super) struct App {
    /// Where the proxy is.
    pub(super) addr: String,
    pub(super) link: Link,
    live: Known,
    /// What was live when it was paused.
    frozen: Option<Known>,
    pub(super) tab: Tab,
    /// Of servers and of groups.
    pub(super) sorts: [Sort; 2],
    pub(super) cursors: [Cursor; 4],
    /// What the list shows, in its order.
    pub(super) rows: Vec<u32>,
    /// How many rows the screen had room for.
    pub(super) page: usize,
    /// Servers that were marked.
    pub(super) marked: BTreeSet<u32>,
    pub(super) search: String,
    /// Keys go into `search`.
    pub(super) is_searching: bool,
    /// Only servers of this group.
    pub(super) only: Option<u32>,
    pub(super) dialog: Option<Dialog>,
    pub(super) notice: Option<Notice>,
    pub(super) glyphs: Glyphs,
    pub(super) is_colored: bool,
    happened: u32,
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Servers, Self::Groups, Self::Policies, Self::Events];

    pub(super) fn name(self) -> &'static str {
        ["Servers", "Groups", "Policies", "Events"][self as usize]
    }
}

impl Wanted {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl App {
    /// Nothing is known yet.
    pub(super) fn new(addr: String, glyphs: Glyphs, is_colored: bool) -> Self {
        Self {
            addr,
            link: Link::Live,
            live: Known::default(),
            frozen: None,
            tab: Tab::Servers,
            sorts: [listing::SERVERS_FIRST, listing::GROUPS_FIRST],
            cursors: [Cursor::default(); 4],
            rows: Vec::new(),
            page: 1,
            marked: BTreeSet::new(),
            search: String::new(),
            is_searching: false,
            only: None,
            dialog: None,
            notice: None,
            glyphs,
            is_colored,
            happened: 0,
        }
    }

    /// What is to be shown.
    pub(super) fn known(&self) -> &Known {
        self.frozen.as_ref().unwrap_or(&self.live)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Holds what is shown, or goes on. The connection stays, and what comes is not lost.
    pub(super) fn pause(&mut self) {
        match self.frozen.take() {
            None => self.frozen = Some(self.live.clone()),
            Some(frozen) => self.renumber(&frozen.state),
        }
        self.list();
    }

    /// Takes what the proxy says.
    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Connected => self.link = Link::Live,
            Told::Lost(error) => self.lost(&error),
            Told::Message(message) => {
                self.link = Link::Live;
                self.message(&message);
            }
        }
    }

    fn lost(&mut self, error: &AskError) {
        let since = match self.link {
            Link::Live => Instant::now(),
            Link::Lost { since, .. } => since,
        };
        self.link = Link::Lost { why: one_line(&error.to_string(), TEXT_CHARS_MAX), since };
    }

    fn message(&mut self, message: &Message) {
        let before = (message.event == "state").then(|| self.live.state.clone());
        if self.live.state.take(&message.event, &message.data) {
            self.live.past.add(self.live.state.totals);
        } else {
            self.happened += 1;
            self.live.events.push_front(Happening::read(self.happened, message));
            self.live.events.truncate(EVENTS_MAX);
        }
        if self.frozen.is_none() {
            if let Some(before) = before {
                self.renumber(&before);
            }
            let known = &self.live.state;
            self.marked.retain(|i| known.servers.contains_key(i));
            self.only = self.only.filter(|i| known.groups.contains_key(i));
            self.list();
        }
    }

    /// Finds again what was chosen and marked: a full state may have other numbers, as after a restart of the proxy.
    fn renumber(&mut self, before: &State) {
        let now = &self.live.state;
        let servers = now.servers.iter().map(|(i, server)| ((now.group_of(server), server.facts.addr.as_str()), *i));
        let servers: HashMap<(&str, &str), u32> = servers.collect();
        let groups: HashMap<&str, u32> = now.groups.iter().map(|(i, group)| (group.facts.group.as_str(), *i)).collect();
        let server = |i: u32| {
            let server = before.servers.get(&i)?;
            servers.get(&(before.group_of(server), server.facts.addr.as_str())).copied()
        };
        let group = |i: u32| groups.get(before.groups.get(&i)?.facts.group.as_str()).copied();
        self.marked = self.marked.iter().filter_map(|i| server(*i)).collect();
        self.only = self.only.and_then(group);
        let [of_servers, of_groups, ..] = &mut self.cursors;
        of_servers.chosen = of_servers.chosen.and_then(server);
        of_groups.chosen = of_groups.chosen.and_then(group);
    }

    /// Makes the list anew, and keeps what was chosen.
    pub(super) fn list(&mut self) {
        let Known { state, events, .. } = self.known();
        let search = self.search.to_lowercase();
        self.rows = match self.tab {
            Tab::Servers => listing::servers(state, self.sorts[0], &search, self.only),
            Tab::Groups => listing::groups(state, self.sorts[1], &search),
            Tab::Policies => listing::policies(state, &search),
            Tab::Events => {
                let is_meant = |happening: &&Happening| search.is_empty() || happening.contains(&search);
                events.iter().filter(is_meant).map(|happening| happening.number).collect()
            }
        };
        let cursor = &mut self.cursors[self.tab as usize];
        cursor.row = match cursor.chosen {
            None => 0,
            Some(chosen) => self.rows.iter().position(|row| *row == chosen).unwrap_or(cursor.row),
        };
        cursor.row = cursor.row.min(self.rows.len().saturating_sub(1));
        cursor.chosen = cursor.chosen.and_then(|_| self.rows.get(cursor.row).copied());
    }

    /// What the cursor is on.
    pub(super) fn chosen(&self) -> Option<u32> {
        self.rows.get(self.cursors[self.tab as usize].row).copied()
    }

    /// The servers that a change is about: those that are marked, or the one under the cursor.
    pub(super) fn targets(&self) -> Vec<Target> {
        let state = &self.known().state;
        let target = |server: &Server| Target {
            group: state.group_of(server).to_owned(),
            addr: server.facts.addr.clone(),
            sessions: server.row[0].unwrap_or(0),
        };
        let chosen: Vec<u32> = match self.tab {
            Tab::Servers if self.marked.is_empty() => self.chosen().into_iter().collect(),
            Tab::Servers => self.marked.iter().copied().collect(),
            _ => Vec::new(),
        };
        chosen.iter().filter_map(|i| state.servers.get(i)).map(target).collect()
    }
}

impl Past {
    fn add(&mut self, totals: [Option<u64>; 4]) {
        for (series, total) in self.series.iter_mut().zip(totals) {
            let Some(total) = total else { continue };
            if series.len() == SECONDS_MAX {
                series.remove(0);
            }
            series.push(total);
        }
    }
}
