//! What heartbeats say of a server that the file says too: its weight, state and zone.
//!
//! The last heartbeat counts at once, in memory. The file follows, once per [`FILE_PAUSE`] at most: two callers that say
//! different things of one server would have it written with every heartbeat. Whoever changes the file by hand
//! overrules what was said until then.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::clock;
use crate::server::{ServerSettings, State};

/// Between two changes of the file, and between two warnings, because of one server's heartbeats.
pub(super) const FILE_PAUSE: Duration = Duration::from_secs(60);

/// The label that heartbeats set.
const ZONE: &str = "zone";

/// Who sent a heartbeat; `None` over a unix socket.
pub type Caller = Option<SocketAddr>;

/// What a heartbeat says of its server; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its weight.
    pub weight: Option<u16>,
    /// What it wants for itself.
    pub state: Option<State>,
    /// Its label `zone`.
    pub zone: Option<String>,
}

/// What has to be done about something new.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It is to be written into the file now, and not later.
    pub(super) is_due: bool,
    /// Two callers disagree, and that has not been told for a while.
    pub(super) disagreement: Option<Disagreement>,
}

/// Two callers that say different things of one server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disagreement {
    /// Who said what was in force until now.
    pub(super) other: Caller,
    /// What differs, for people.
    pub(super) differs: String,
}

/// What is remembered of one server's heartbeats.
#[derive(Debug, Default)]
pub(super) struct SaidKeeper {
    /// What counts and is not in the file yet.
    unwritten: Said,
    /// What the file says, while something is `unwritten`.
    in_file: Said,
    /// What is on its way into the file.
    writing: Said,
    /// When something went on its way.
    written_ms: Option<u64>,
    told_ms: Option<u64>,
    /// Who said last what is in force.
    by: Option<Caller>,
    /// What was in force before the last change of it.
    before: Said,
}

impl Said {
    fn of(server: &ServerSettings) -> Self {
        let zone = server.labels.get(ZONE).cloned().unwrap_or_default();
        Self { weight: Some(server.weight), state: Some(server.state), zone: Some(zone) }
    }

    /// True when nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of it is not so yet.
    pub fn news_for(&self, server: &ServerSettings) -> Self {
        self.without(&Self::of(server))
    }

    /// Puts it into the settings.
    pub fn apply(&self, server: &mut ServerSettings) {
        server.weight = self.weight.unwrap_or(server.weight);
        server.state = self.state.unwrap_or(server.state);
        match self.zone.as_deref() {
            None => {}
            Some("") => drop(server.labels.remove(ZONE)),
            Some(zone) => drop(server.labels.insert(ZONE.to_owned(), zone.to_owned())),
        }
    }

    /// The fields for which `keep` holds; it is told whether the other one has the field, and whether it is the same.
    fn only(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        Self {
            weight: self.weight.filter(|_| keep(other.weight.is_some(), other.weight == self.weight)),
            state: self.state.filter(|_| keep(other.state.is_some(), other.state == self.state)),
            zone: self.zone.clone().filter(|_| keep(other.zone.is_some(), other.zone == self.zone)),
        }
    }

    /// The fields in which the other one is not the same.
    fn without(&self, other: &Self) -> Self {
        self.only(other, |_, is_equal| !is_equal)
    }

    /// The fields that the other one has too.
    fn where_told(&self, other: &Self) -> Self {
        self.only(other, |is_told, _| is_told)
    }

    /// The fields that the other one does not have.
    fn where_not_told(&self, other: &Self) -> Self {
        self.only(other, |is_told, _| !is_told)
    }

    fn and_then(self, later: &Self) -> Self {
        Self {
            weight: later.weight.or(self.weight),
            state: later.state.or(self.state),
            zone: later.zone.clone().or(self.zone),
        }
    }

    /// `weight 5 and not 3`, for each field of this one.
    fn differs_from(&self, other: &Self) -> String {
        let fields = [
            ("weight", self.weight.map(|it| it.to_string()), other.weight.map(|it| it.to_string())),
            ("state", self.state.map(|it| it.to_string()), other.state.map(|it| it.to_string())),
            (ZONE, self.zone.clone(), other.zone.clone()),
        ];
        let differing = fields.into_iter().filter_map(|(name, ours, theirs)| {
            let theirs = theirs.filter(|theirs| !theirs.is_empty()).unwrap_or_else(|| "none".to_owned());
            Some(format!("{name} {} and not {theirs}", ours?))
        });
        differing.collect::<Vec<_>>().join(", ")
    }
}

impl SaidKeeper {
    /// A heartbeat says what is in force.
    pub(super) fn confirmed(&mut self, caller: Caller) {
        self.by = Some(caller);
    }

    /// A heartbeat says something new of a server, whose settings are these so far.
    pub(super) fn changed(&mut self, server: &ServerSettings, news: &Said, caller: Caller, now_ms: u64) -> Verdict {
        let known = Said::of(server);
        let old = known.where_told(news);
        if self.unwritten.is_empty() {
            self.in_file = known;
        }
        let pause = clock::as_ms(FILE_PAUSE);
        let is_recent = |at: Option<u64>| at.is_some_and(|at| now_ms < at.saturating_add(pause));
        let is_due = !is_recent(self.written_ms);
        let other = self.by.replace(caller);
        // One caller may change its mind; the same address may also be that of two, who take turns.
        let is_back = *news == std::mem::replace(&mut self.before, old.clone());
        let takes_turns = |other: Caller| is_back || other.map(|it| it.ip()) != caller.map(|it| it.ip());
        let other = other.filter(|other| !is_due && takes_turns(*other) && !is_recent(self.told_ms));
        if other.is_some() {
            self.told_ms = Some(now_ms);
        }
        let unwritten = std::mem::take(&mut self.unwritten).and_then(news);
        // Back to what the file says, unless that is about to change.
        let will_be = self.in_file.clone().and_then(&self.writing);
        self.unwritten = unwritten.without(&will_be).and_then(&unwritten.where_told(&self.writing));
        if is_due {
            self.start_writing(now_ms);
        }
        let disagreement = other.map(|other| Disagreement { other, differs: news.differs_from(&old) });
        Verdict { is_due, disagreement }
    }

    /// When something is to be written that has waited for it.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let since = self.written_ms.filter(|_| !self.unwritten.is_empty() && self.writing.is_empty());
        since.map(|since| since.saturating_add(clock::as_ms(FILE_PAUSE)))
    }

    /// What waits to be written; from now on it is on its way.
    pub(super) fn start_writing(&mut self, now_ms: u64) -> Said {
        self.written_ms = Some(now_ms);
        self.writing = self.unwritten.clone();
        self.writing.clone()
    }

    /// What was on its way is in the file, or cannot be written.
    pub(super) fn stop_writing(&mut self) {
        self.writing = Said::default();
    }

    /// Does not hold any more what could not be written.
    pub(super) fn take_back(&mut self, refused: &Said) {
        self.unwritten = self.unwritten.without(refused);
        self.written_ms = None;
        self.stop_writing();
    }

    /// The file says this now: what of it was said by heartbeats, or overrules them, is no longer kept here.
    pub(super) fn file_says(&mut self, server: &ServerSettings) {
        if self.unwritten.is_empty() {
            return;
        }
        let now = Said::of(server);
        let by_hand = now.without(&self.in_file).without(&self.writing);
        self.unwritten = self.unwritten.without(&now).where_not_told(&by_hand);
        self.in_file = now;
    }

    /// An operator has set the state.
    pub(super) fn forget_state(&mut self) {
        self.unwritten.state = None;
    }

    /// What counts instead of what the file says.
    pub(super) fn apply(&self, server: &mut ServerSettings) {
        self.unwritten.apply(server);
    }

    /// Puts what the file says where something else counts.
    pub(super) fn apply_file(&self, server: &mut ServerSettings) {
        self.in_file.where_told(&self.unwritten).apply(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Origin;

    const A: &str = "10.0.0.1:1000";
    const B: &str = "10.0.0.2:1000";

    /// A server and what it is in the file.
    struct Bench {
        keeper: SaidKeeper,
        now: ServerSettings,
        file: ServerSettings,
        writes: usize,
        told: Vec<String>,
    }

    impl Bench {
        fn new() -> Self {
            let server = ServerSettings::new("10.0.0.9:1".parse().unwrap(), Origin::Heartbeat);
            Self { keeper: SaidKeeper::default(), file: server.clone(), now: server, writes: 0, told: Vec::new() }
        }

        fn beat(&mut self, caller: &str, weight: u16, now_ms: u64) {
            let caller = Some(caller.parse().unwrap());
            let news = Said { weight: Some(weight), ..Said::default() }.news_for(&self.now);
            if news.is_empty() {
                return self.keeper.confirmed(caller);
            }
            let verdict = self.keeper.changed(&self.now, &news, caller, now_ms);
            news.apply(&mut self.now);
            assert_eq!(self.now.weight, weight, "the last one counts");
            if let Some(Disagreement { other, differs }) = verdict.disagreement {
                self.told.push(format!("{}: {differs}", other.unwrap()));
            }
            if verdict.is_due {
                self.write(news);
            }
        }

        fn write(&mut self, said: Said) {
            said.apply(&mut self.file);
            self.writes += 1;
            self.merge();
            self.keeper.stop_writing();
        }

        fn merge(&mut self) {
            self.keeper.file_says(&self.file);
            self.now = self.file.clone();
            self.keeper.apply(&mut self.now);
        }

        fn write_what_is_due(&mut self, now_ms: u64) {
            if self.keeper.due_ms().is_some_and(|due| due <= now_ms) {
                let said = self.keeper.start_writing(now_ms);
                self.write(said);
            }
        }
    }

    #[test]
    fn of_two_callers_that_disagree_the_last_one_counts_and_the_file_and_the_log_hear_of_it_once_a_minute() {
        let mut bench = Bench::new();
        for now_ms in (0..600_000).step_by(1_000) {
            let (caller, weight) = if now_ms % 2_000 == 0 { (A, 3) } else { (B, 5) };
            bench.beat(caller, weight, now_ms);
            bench.write_what_is_due(now_ms);
            assert_eq!(bench.now.weight, weight);
            assert!(bench.writes as u64 <= 1 + now_ms / 60_000, "{} after {now_ms} ms", bench.writes);
            assert!(bench.told.len() as u64 <= 1 + now_ms / 60_000, "{:?} after {now_ms} ms", bench.told);
        }
        assert!(bench.writes >= 2 && bench.told.len() >= 9, "{} {}", bench.writes, bench.told.len());
        assert_eq!(bench.told[0], "10.0.0.1:1000: weight 5 and not 3");
        // One of them gives up; the file follows.
        bench.beat(A, 3, 600_000);
        bench.write_what_is_due(700_000);
        assert_eq!((bench.file.weight, bench.keeper.due_ms()), (3, None));
    }

    #[test]
    fn a_caller_that_changes_its_mind_is_no_two_callers() {
        let mut bench = Bench::new();
        for (weight, now_ms) in [(3, 0), (4, 1_000), (5, 2_000), (6, 3_000)] {
            bench.beat(A, weight, now_ms);
        }
        assert_eq!((bench.writes, bench.told.len()), (1, 0));
        // One that takes over from another is none either.
        bench.write_what_is_due(60_000);
        bench.beat(B, 7, 200_000);
        bench.beat(B, 7, 201_000);
        assert_eq!((bench.writes, bench.file.weight, bench.told.len()), (3, 7, 0));
        // Two behind one address take turns.
        for now_ms in (300_000..304_000).step_by(1_000) {
            bench.beat(if now_ms % 2_000 == 0 { A } else { "10.0.0.1:2000" }, (now_ms / 1_000 % 2) as u16 + 1, now_ms);
        }
        assert_eq!(bench.told, ["10.0.0.1:2000: weight 1 and not 2"]);
    }

    #[test]
    fn what_is_written_by_hand_overrules_what_was_said() {
        let mut bench = Bench::new();
        bench.beat(A, 3, 0);
        bench.beat(A, 4, 1_000);
        // Another change of the file leaves it as it is.
        bench.file.max_sessions = 9;
        bench.merge();
        assert_eq!((bench.now.weight, bench.now.max_sessions), (4, 9));
        bench.file.weight = 8;
        bench.merge();
        assert_eq!((bench.now.weight, bench.keeper.due_ms()), (8, None));
        // The next heartbeat counts again.
        bench.beat(A, 4, 2_000);
        assert_eq!((bench.writes, bench.keeper.due_ms()), (1, Some(60_000)));
    }

    #[test]
    fn what_is_said_while_the_file_is_written_is_not_lost() {
        let mut bench = Bench::new();
        let said = |weight| Said { weight: Some(weight), ..Said::default() };
        let verdict = bench.keeper.changed(&bench.now, &said(3), None, 0);
        assert!(verdict.is_due);
        said(3).apply(&mut bench.now);
        // Back to what the file still says.
        assert!(!bench.keeper.changed(&bench.now, &said(1), None, 10).is_due);
        said(1).apply(&mut bench.now);
        bench.write(said(3));
        assert_eq!((bench.file.weight, bench.now.weight), (3, 1));
        bench.write_what_is_due(60_000);
        assert_eq!((bench.file.weight, bench.keeper.due_ms()), (1, None));
    }

    #[test]
    fn what_cannot_be_written_does_not_count() {
        let mut bench = Bench::new();
        let news = Said { weight: Some(3), ..Said::default() };
        assert!(bench.keeper.changed(&bench.now, &news, None, 0).is_due);
        bench.keeper.take_back(&news);
        bench.merge();
        assert_eq!(bench.now.weight, 1);
        assert!(bench.keeper.changed(&bench.now, &news, None, 10).is_due, "it is tried again");
    }
}
