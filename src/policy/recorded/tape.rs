//! Where notes gather until somebody writes them down.
//!
//! A recording is exact or it is nothing: when a note cannot be kept, because the disk is too slow, or the file may grow
//! no further, the recording ends there and says why. Nobody waits for the disk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::about::About;
use super::epochs::Epochs;
use super::mirror::{Mirror, take_over};
use super::note::{Encoder, Note};
use crate::base::clock;
use crate::policy::balance::ServerSet;
use crate::policy::oversee::{Birth, InstanceChange, Overseer};
use crate::server::{Facts, ServerId};

/// So much may wait to be written down.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// More servers would cost each pick too much.
pub const SERVERS_MAX: usize = 2_000;

/// How a recording is made.
#[derive(Clone, Debug)]
pub struct TapeOptions {
    /// So much may be noted.
    pub bytes_max: u64,
    /// Clients' addresses are replaced in the notes by others.
    pub is_anonymous: bool,
    /// The content of the module's file.
    pub sha256: Option<[u8; 32]>,
}

/// The notes of a recording that are not written down yet, and what the next ones depend on.
pub struct Tape {
    /// Guards the notes, and with them the order in which the policy is asked.
    recorder: Mutex<Recorder>,
    /// The time of the request, or of the change of servers, that came last.
    now_ms: AtomicU64,
    /// An instance was stopped at its deadline in the call under way: that for servers, that for backups.
    ran_out: [AtomicBool; 2],
    sha256: Option<[u8; 32]>,
}

/// What was noted since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted {
    /// Picks.
    pub picks: u64,
    /// Nothing comes after that.
    pub is_over: bool,
}

/// Makes notes.
pub(super) struct Recorder {
    notes: Vec<u8>,
    /// Picks in `notes`.
    picks_noted: u64,
    encoder: Encoder,
    pub(super) mirror: Mirror,
    pub(super) epochs: Epochs,
    /// Picks that named a server.
    pub(super) picks: u64,
    pub(super) sets: u32,
    changes: Vec<(ServerId, Facts)>,
    bytes_left: u64,
    /// What clients' addresses are hashed with.
    client_key: Option<u64>,
    why: Option<String>,
    /// That is because nobody has fetched the notes in time.
    is_too_slow: bool,
}

impl Tape {
    /// Begins with what is recorded, and the file of a module.
    pub fn new(about: &About, module: Option<(String, Vec<u8>)>, options: TapeOptions) -> Arc<Self> {
        let TapeOptions { bytes_max, is_anonymous, sha256 } = options;
        let mut recorder = Recorder {
            notes: Vec::new(),
            picks_noted: 0,
            encoder: Encoder::default(),
            mirror: Mirror::default(),
            epochs: Epochs::default(),
            picks: 0,
            sets: 0,
            changes: Vec::new(),
            bytes_left: u64::MAX,
            client_key: is_anonymous.then(|| fastrand::u64(..)),
            why: None,
            is_too_slow: false,
        };
        // What it begins with does not wait for anybody.
        let about = serde_json::to_string(about).expect("it has string keys only");
        for note in [Some(Note::About(about)), module.map(|(name, bytes)| Note::Module(name, bytes))] {
            note.iter().for_each(|note| _ = recorder.encoder.add(note, &mut recorder.notes));
        }
        recorder.bytes_left = bytes_max;
        let now_ms = AtomicU64::new(0);
        Arc::new(Self { recorder: Mutex::new(recorder), now_ms, ran_out: Default::default(), sha256 })
    }

    /// Gives what was noted since the last call, in the place of `empty`.
    pub fn take(&self, empty: &mut Vec<u8>) -> Noted {
        empty.clear();
        let mut recorder = self.recorder();
        std::mem::swap(&mut recorder.notes, empty);
        let picks = std::mem::take(&mut recorder.picks_noted);
        Noted { picks, is_over: recorder.why.is_some() }
    }

    /// Ends the recording, if it has not ended yet, for this reason.
    pub fn end(&self, why: &str) {
        self.recorder().end(why);
    }

    /// Why it has ended; `None` while it goes on.
    pub fn why(&self) -> Option<String> {
        self.recorder().why.clone()
    }

    /// True when it has ended because what was noted was not fetched in time.
    pub fn is_too_slow(&self) -> bool {
        self.recorder().is_too_slow
    }

    /// How picks are told apart that are made with it.
    pub(super) fn epochs(&self) -> Epochs {
        self.recorder().epochs.clone()
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        // A panic can only come out of a module's engine: what was noted so far is whole.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is the time of what comes next.
    pub(super) fn set_now(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Relaxed);
    }

    /// Notes that an instance was stopped in the call that is over, in front of that.
    pub(super) fn note_deadlines(&self, recorder: &mut Recorder) {
        for (ran_out, is_backup) in self.ran_out.iter().zip([false, true]) {
            if ran_out.load(Relaxed) {
                ran_out.store(false, Relaxed);
                recorder.add(&Note::RanOut(is_backup));
            }
        }
    }
}

impl Recorder {
    /// True until it has ended.
    pub(super) fn is_running(&self) -> bool {
        self.why.is_none()
    }

    /// Makes a note, unless the recording has ended. It ends here when there is no room for the note.
    pub(super) fn add(&mut self, note: &Note) {
        if !self.is_running() {
            return;
        }
        let before = self.notes.len();
        let added = self.encoder.add(note, &mut self.notes) as u64;
        let why = match self.bytes_left.checked_sub(added) {
            None => "the file may grow no further (max)",
            Some(_) if self.notes.len() > WAITING_BYTES_MAX => {
                self.is_too_slow = true;
                "the disk is slower than the picks"
            }
            Some(left) => {
                self.bytes_left = left;
                self.picks_noted += u64::from(matches!(note, Note::Pick(_)));
                return;
            }
        };
        self.notes.truncate(before);
        self.end(why);
    }

    pub(super) fn end(&mut self, why: &str) {
        if self.is_running() {
            self.encoder.add(&Note::End(why.to_owned()), &mut self.notes);
            self.why = Some(why.to_owned());
        }
    }

    /// Brings the mirror up to date and notes what was another.
    pub(super) fn take_over(&mut self, real: &ServerSet, mirror: &ServerSet) {
        take_over(real, mirror, &mut self.changes);
        if !self.changes.is_empty() {
            let note = Note::Facts(std::mem::take(&mut self.changes));
            self.add(&note);
            if let Note::Facts(mut changes) = note {
                changes.clear();
                self.changes = changes;
            }
        }
    }

    /// How a client is noted: its address, or another in its place.
    pub(super) fn client(&self, client: SocketAddr) -> SocketAddr {
        let Some(key) = self.client_key else { return client };
        let ip = match client.ip() {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(xxh3_64_with_seed(&ip.octets(), key) as u32)),
            IpAddr::V6(ip) => {
                let half = |seed| u128::from(xxh3_64_with_seed(&ip.octets(), seed));
                IpAddr::V6(Ipv6Addr::from(half(key) << 64 | half(!key)))
            }
        };
        SocketAddr::new(ip, client.port())
    }
}

impl Overseer for Tape {
    fn birth(&self) -> Birth {
        Birth { now_ms: clock::coarse_ms(), seed: fastrand::u64(..) }
    }

    fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    fn change(&self, change: &mut dyn FnMut() -> Option<InstanceChange>) {
        let mut recorder = self.recorder();
        match change() {
            None => {}
            Some(InstanceChange::Came { is_backup, birth, sha256 }) if Some(sha256) == self.sha256 => {
                recorder.add(&Note::Instance(is_backup, birth));
            }
            Some(InstanceChange::Came { .. } | InstanceChange::Replaced) => {
                recorder.end("another version of the policy's module came");
            }
        }
    }

    fn ran_out_of_time(&self, is_backup: bool) {
        self.ran_out[usize::from(is_backup)].store(true, Relaxed);
    }
}
