//! What a recording consists of: notes, one after the other, each a length, a kind, and what that kind says.
//!
//! A reader passes over kinds that it does not know. Times stand as differences, so a note is read after those before it.

use std::net::SocketAddr;

use super::bytes::{Put, Taken};
use crate::policy::balance::Outcome;
use crate::policy::oversee::Birth;
use crate::server::{Avoided, Facts, ServerId};

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// What is recorded, as JSON. It is the first.
    About(String),
    /// The file of the policy's module: its name and what is in it.
    Module(String, Vec<u8>),
    /// The policy was prepared for these servers.
    Servers(Servers),
    /// A set of servers, by its number, is asked about no more.
    Gone(u32),
    /// What the policy sees of these servers is another.
    Facts(Vec<(ServerId, Facts)>),
    /// The policy was asked.
    Pick(Asked),
    /// The policy was told what became of a pick.
    Report(Reported),
    /// Another instance of the module is at work, for backups or for the other servers.
    Instance(bool, Birth),
    /// In the call that comes next the deadline of an instance passed: of the one for backups, or of the other.
    RanOut(bool),
    /// Why the recording ended.
    End(String),
}

/// Servers that a policy is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// What they are called in picks.
    pub set: u32,
    /// They are the backups.
    pub is_backup: bool,
    /// They are tried only when nobody else is left.
    pub is_last_resort: bool,
    /// Of the group's servers.
    pub generation: u64,
    /// When.
    pub now_ms: u64,
    /// In order.
    pub servers: Vec<Shown>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number in the group.
    pub id: ServerId,
    /// `host:port`.
    pub addr: String,
    /// Share of new sessions.
    pub weight: u16,
    /// Limit of sessions; 0 for none.
    pub max_sessions: u32,
    /// Free-form facts.
    pub labels: Vec<(String, String)>,
    /// What changes by itself.
    pub facts: Facts,
}

/// A question and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The servers, by their number.
    pub set: u32,
    /// It had named nobody before although a server was open.
    pub named_nobody: bool,
    /// Who asked.
    pub client: SocketAddr,
    /// The group's port.
    pub port: u16,
    /// Servers that this session has tried.
    pub tried: Vec<ServerId>,
    /// Which servers are passed over.
    pub avoided: Avoided,
    /// When.
    pub now_ms: u64,
    /// The random number of the request.
    pub random: u64,
    /// The index of the server; `None` for nobody.
    pub answer: Option<u32>,
    /// Somebody wants to hear what becomes of it.
    pub is_heard: bool,
}

/// What became of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The servers of whose policy it was told, by their number.
    pub set: u32,
    /// The pick, by its number among those that named a server.
    pub pick: u64,
    /// Somebody wanted to hear of it.
    pub is_heard: bool,
    /// The server.
    pub server: ServerId,
    /// What became of it.
    pub outcome: Outcome,
}

mod kind {
    pub(super) const ABOUT: u8 = 1;
    pub(super) const MODULE: u8 = 2;
    pub(super) const SERVERS: u8 = 3;
    pub(super) const GONE: u8 = 4;
    pub(super) const FACTS: u8 = 5;
    pub(super) const PICK: u8 = 6;
    pub(super) const REPORT: u8 = 7;
    pub(super) const INSTANCE: u8 = 8;
    pub(super) const RAN_OUT: u8 = 9;
    pub(super) const END: u8 = 10;
}

/// The note that ends a recording, as bytes.
pub fn end_note(why: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::default().add(&Note::End(why.to_owned()), &mut bytes);
    bytes
}

/// Turns notes into bytes.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    last_ms: u64,
    scratch: Vec<u8>,
}

impl Encoder {
    /// Appends a note. Answers how many bytes it takes.
    pub(super) fn add(&mut self, note: &Note, to: &mut Vec<u8>) -> usize {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        self.write(note, &mut out);
        let before = to.len();
        to.text(&out);
        self.scratch = out;
        to.len() - before
    }

    fn write(&mut self, note: &Note, out: &mut Vec<u8>) {
        match note {
            Note::About(text) => {
                out.push(kind::ABOUT);
                out.extend_from_slice(text.as_bytes());
            }
            Note::Module(name, bytes) => {
                out.push(kind::MODULE);
                out.text(name.as_bytes());
                out.extend_from_slice(bytes);
            }
            Note::Servers(servers) => self.write_servers(servers, out),
            Note::Gone(set) => {
                out.push(kind::GONE);
                out.number((*set).into());
            }
            Note::Facts(changes) => {
                out.push(kind::FACTS);
                out.number(changes.len() as u64);
                for (id, facts) in changes {
                    out.number(id.0.into());
                    write_facts(*facts, out);
                }
            }
            Note::Pick(asked) => self.write_pick(asked, out),
            Note::Report(report) => write_report(report, out),
            Note::Instance(is_backup, birth) => {
                out.extend([kind::INSTANCE, u8::from(*is_backup)]);
                out.number(birth.now_ms);
                out.fixed(birth.seed);
            }
            Note::RanOut(is_backup) => out.extend([kind::RAN_OUT, u8::from(*is_backup)]),
            Note::End(why) => {
                out.push(kind::END);
                out.extend_from_slice(why.as_bytes());
            }
        }
    }

    fn write_servers(&mut self, servers: &Servers, out: &mut Vec<u8>) {
        out.push(kind::SERVERS);
        out.number(servers.set.into());
        out.push(u8::from(servers.is_backup) | u8::from(servers.is_last_resort) << 1);
        out.number(servers.generation);
        self.time(servers.now_ms, out);
        out.number(servers.servers.len() as u64);
        for server in &servers.servers {
            out.number(server.id.0.into());
            out.text(server.addr.as_bytes());
            out.number(server.weight.into());
            out.number(server.max_sessions.into());
            out.number(server.labels.len() as u64);
            for (name, text) in &server.labels {
                out.text(name.as_bytes());
                out.text(text.as_bytes());
            }
            write_facts(server.facts, out);
        }
    }

    fn write_pick(&mut self, asked: &Asked, out: &mut Vec<u8>) {
        out.push(kind::PICK);
        out.number(asked.set.into());
        out.push(u8::from(asked.named_nobody) | u8::from(asked.is_heard) << 1);
        out.client(asked.client);
        out.number(asked.port.into());
        out.number(asked.tried.len() as u64);
        asked.tried.iter().for_each(|id| out.number(id.0.into()));
        out.push(asked.avoided.bits());
        self.time(asked.now_ms, out);
        out.fixed(asked.random);
        out.number(asked.answer.map_or(0, |index| u64::from(index) + 1));
    }

    fn time(&mut self, now_ms: u64, out: &mut Vec<u8>) {
        out.signed(now_ms.wrapping_sub(self.last_ms).cast_signed());
        self.last_ms = now_ms;
    }
}

fn write_facts(facts: Facts, out: &mut Vec<u8>) {
    out.number(facts.sessions.into());
    out.number(facts.connect_latency_us.into());
    out.number(facts.answered_at.into());
    out.push(facts.doubts);
}

fn write_report(report: &Reported, out: &mut Vec<u8>) {
    out.push(kind::REPORT);
    out.number(report.set.into());
    out.number(report.pick);
    out.push(u8::from(report.is_heard));
    out.number(report.server.0.into());
    match report.outcome {
        Outcome::Connected { micros } => {
            out.push(0);
            out.number(micros.into());
        }
        Outcome::Failed => out.push(1),
        Outcome::Closed { millis, bytes } => {
            out.push(2);
            out.number(millis);
            out.number(bytes);
        }
    }
}

/// Turns bytes into notes.
#[derive(Debug, Default)]
pub struct Decoder {
    last_ms: u64,
    /// Notes of kinds that are not known.
    pub unknown: u64,
}

/// What a recording says that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a note makes no sense")]
pub struct BadNote;

impl Decoder {
    /// The next of the notes in `bytes`, which is moved on; `None` at their end.
    ///
    /// # Errors
    ///
    /// It makes no sense.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Note>, BadNote> {
        while !bytes.is_empty() {
            let mut taken = Taken(bytes);
            let text = taken.text().ok_or(BadNote)?;
            *bytes = taken.0;
            let mut note = Taken(text);
            let kind = note.byte().ok_or(BadNote)?;
            if (kind::ABOUT..=kind::END).contains(&kind) {
                let read = self.read(kind, &mut note).filter(|_| note.0.is_empty());
                return read.map(Some).ok_or(BadNote);
            }
            self.unknown += 1;
        }
        Ok(None)
    }

    fn read(&mut self, kind: u8, from: &mut Taken<'_>) -> Option<Note> {
        let rest = |from: &mut Taken<'_>| from.bytes(from.0.len()).map(<[u8]>::to_vec);
        Some(match kind {
            kind::ABOUT => Note::About(String::from_utf8(rest(from)?).ok()?),
            kind::MODULE => Note::Module(from.string()?, rest(from)?),
            kind::SERVERS => Note::Servers(self.servers(from)?),
            kind::GONE => Note::Gone(from.small()?),
            kind::FACTS => Note::Facts(from.many(|from| Some((ServerId(from.small()?), facts(from)?)))?),
            kind::PICK => Note::Pick(self.pick(from)?),
            kind::REPORT => Note::Report(report(from)?),
            kind::INSTANCE => {
                let is_backup = flag(from)?;
                Note::Instance(is_backup, Birth { now_ms: from.number()?, seed: from.fixed()? })
            }
            kind::RAN_OUT => Note::RanOut(flag(from)?),
            kind::END => Note::End(String::from_utf8(rest(from)?).ok()?),
            _ => return None,
        })
    }

    fn servers(&mut self, from: &mut Taken<'_>) -> Option<Servers> {
        let (set, flags, generation) = (from.small()?, from.byte()?, from.number()?);
        let now_ms = self.time(from)?;
        let servers = from.many(|from| {
            Some(Shown {
                id: ServerId(from.small()?),
                addr: from.string()?,
                weight: from.small()?,
                max_sessions: from.small()?,
                labels: from.many(|from| Some((from.string()?, from.string()?)))?,
                facts: facts(from)?,
            })
        })?;
        let (is_backup, is_last_resort) = (flags & 1 != 0, flags & 2 != 0);
        Some(Servers { set, is_backup, is_last_resort, generation, now_ms, servers })
    }

    fn pick(&mut self, from: &mut Taken<'_>) -> Option<Asked> {
        let (set, flags, client, port) = (from.small()?, from.byte()?, from.client()?, from.small()?);
        let tried = from.many(|from| from.small().map(ServerId))?;
        let avoided = Avoided::from_bits(from.byte()?);
        let (now_ms, random) = (self.time(from)?, from.fixed()?);
        let answer = from.small::<u32>()?.checked_sub(1);
        let (named_nobody, is_heard) = (flags & 1 != 0, flags & 2 != 0);
        Some(Asked { set, named_nobody, client, port, tried, avoided, now_ms, random, answer, is_heard })
    }

    fn time(&mut self, from: &mut Taken<'_>) -> Option<u64> {
        self.last_ms = self.last_ms.wrapping_add(from.signed()?.cast_unsigned());
        Some(self.last_ms)
    }
}

fn facts(from: &mut Taken<'_>) -> Option<Facts> {
    let (sessions, connect_latency_us, answered_at) = (from.small()?, from.small()?, from.small()?);
    Some(Facts { sessions, connect_latency_us, answered_at, doubts: from.byte()? })
}

fn flag(from: &mut Taken<'_>) -> Option<bool> {
    from.byte().map(|byte| byte != 0)
}

fn report(from: &mut Taken<'_>) -> Option<Reported> {
    let (set, pick, is_heard, server) = (from.small()?, from.number()?, flag(from)?, ServerId(from.small()?));
    let outcome = match from.byte()? {
        0 => Outcome::Connected { micros: from.small()? },
        1 => Outcome::Failed,
        2 => Outcome::Closed { millis: from.number()?, bytes: from.number()? },
        _ => return None,
    };
    Some(Reported { set, pick, is_heard, server, outcome })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notes() -> Vec<Note> {
        let client = |text: &str| text.parse().unwrap();
        let asked = Asked {
            set: 3,
            named_nobody: false,
            client: client("10.1.2.3:40000"),
            port: 8081,
            tried: vec![ServerId(7), ServerId(300)],
            avoided: Avoided::DOUBTFUL,
            now_ms: 5_000_000,
            random: u64::MAX,
            answer: Some(0),
            is_heard: true,
        };
        let nobody =
            Asked { client: client("[::1]:1"), now_ms: 4_999_999, answer: None, is_heard: false, ..asked.clone() };
        let facts = Facts { sessions: 1, connect_latency_us: 2_000, answered_at: u32::MAX, doubts: 17 };
        let labels = vec![("zone".to_owned(), "a".to_owned())];
        let shown = Shown { id: ServerId(9), addr: "db:1".to_owned(), weight: 256, max_sessions: 5, labels, facts };
        let servers =
            Servers { set: 1, is_backup: true, is_last_resort: false, generation: 8, now_ms: 9, servers: vec![shown] };
        let report =
            |outcome| Note::Report(Reported { set: 1, pick: 1 << 40, is_heard: false, server: ServerId(2), outcome });
        vec![
            Note::About("{}".to_owned()),
            Note::Module("mine.wat".to_owned(), vec![0, 1, 255]),
            Note::Servers(servers),
            Note::Facts(vec![(ServerId(9), facts), (ServerId(1), Facts::default())]),
            Note::Pick(asked),
            Note::Pick(Asked { named_nobody: true, avoided: Avoided::NONE, tried: Vec::new(), ..nobody }),
            report(Outcome::Connected { micros: 80 }),
            report(Outcome::Failed),
            report(Outcome::Closed { millis: 5, bytes: 1 << 50 }),
            Note::Instance(true, Birth { now_ms: 77, seed: 78 }),
            Note::RanOut(false),
            Note::Gone(1),
            Note::End("max was reached".to_owned()),
        ]
    }

    fn encoded(notes: &[Note]) -> Vec<u8> {
        let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
        notes.iter().for_each(|note| _ = encoder.add(note, &mut bytes));
        bytes
    }

    fn decoded(mut bytes: &[u8]) -> Result<Vec<Note>, BadNote> {
        let (mut decoder, mut notes) = (Decoder::default(), Vec::new());
        while let Some(note) = decoder.next(&mut bytes)? {
            notes.push(note);
        }
        Ok(notes)
    }

    #[test]
    fn notes_come_back_as_they_were_and_unknown_ones_are_passed_over() {
        let bytes = encoded(&notes());
        assert_eq!(decoded(&bytes).unwrap(), notes());
        let later = [&bytes[..], &[3, 200, 1, 2], &bytes[..4]].concat();
        let mut rest = &later[..];
        let mut decoder = Decoder::default();
        let count = std::iter::from_fn(|| decoder.next(&mut rest).unwrap()).count();
        assert_eq!((count, decoder.unknown), (notes().len() + 1, 1));
    }

    #[test]
    fn a_note_that_is_cut_is_refused() {
        let bytes = encoded(&notes()[4..5]);
        assert!((1..bytes.len()).all(|length| decoded(&bytes[..length]) == Err(BadNote)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_notes_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&bytes);
        }

        #[test]
        fn notes_with_a_wrong_byte_are_notes_or_refused(at in 0_usize..400, byte in any::<u8>()) {
            let mut bytes = encoded(&notes());
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = decoded(&bytes);
        }
    }
}
