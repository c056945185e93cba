//! Recordings of picks: they begin and end here, and a thread of its own writes each.
//!
//! A recording begins with a fresh policy object, so that it can be repeated from its first pick on. Sessions never wait
//! for the thread: it fetches what was noted many times a second, and when it cannot write that, the recording ends. The
//! policy then goes on with what it has learned. How exact a recording is, is the business of
//! [`recorded`](crate::policy::recorded).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::blocking::blocking;
use super::{ChangeError, Control};
use crate::base::clock::stamp;
use crate::base::failure::worded;
use crate::base::vital;
use crate::events::{self, Event, PolicyEvent};
use crate::group::view::RecordingView;
use crate::group::{Group, Recording};
use crate::policy::IBalancePolicy;
use crate::policy::recorded::{self, About, AboutModule, FIRST_LINE, Recorded, Tape, TapeOptions, block};
use crate::policy::wasm::source::sha256;

/// The largest recording, where nobody says otherwise.
pub const RECORD_BYTES: u64 = 256 << 20;

/// So many recordings may lie in the folder.
const RECORDINGS_MAX: usize = 8;

/// What the files of recordings are called in the end.
const ENDING: &str = "picks";

/// Between two looks at what was noted.
const PAUSE: Duration = Duration::from_millis(20);

/// After so long, and again after so long, a recording is warned of.
const LONG: Duration = Duration::from_secs(3_600);

/// Whoever ends a recording waits so long until its file is complete.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// How picks are recorded.
#[derive(Clone, Copy, Debug)]
pub struct RecordOptions {
    /// The largest file.
    pub bytes_max: u64,
    /// For how long; `None` until it is ended.
    pub time: Option<Duration>,
    /// Clients' addresses are replaced in the file.
    pub is_anonymous: bool,
}

impl Control {
    /// Begins to record a group's picks, with a fresh policy.
    ///
    /// # Errors
    ///
    /// There is no `record_dir` or no room in it, the group is recorded already, or a file or a policy cannot be made.
    pub async fn start_recording(
        &self,
        group: &Arc<Group>,
        options: RecordOptions,
    ) -> Result<RecordingView, ChangeError> {
        let config = self.config();
        let folder = config.record_dir.clone().ok_or(ChangeError::NoRecordDir)?;
        let _turn = self.shared.recording.lock().await;
        self.is_free(group)?;
        let (serving, spec) = group.policy();
        let module = match spec.as_module() {
            None => None,
            Some(module) => {
                let (modules, name) = (self.policies().modules().clone(), module.name.clone());
                let read = blocking(move || Ok(modules.read(&name))).await?;
                Some(read.map_err(|source| ChangeError::Policy { group: group.id().clone(), source })?)
            }
        };
        let sha256 = module.as_ref().map(|(_, bytes)| sha256(bytes));
        let about = About {
            goproxy: env!("CARGO_PKG_VERSION").to_owned(),
            group: group.id().to_string(),
            port: group.label().port(),
            started: stamp(SystemTime::now()),
            policy: spec.to_string(),
            sessions_before: group.counters.sessions_active.load(Relaxed),
            is_anonymous: options.is_anonymous,
            module: spec.as_module().map(|module| AboutModule::new(module)),
        };
        let name = file_name(&about);
        let tape_options = TapeOptions { bytes_max: options.bytes_max, is_anonymous: options.is_anonymous, sha256 };
        let tape = Tape::new(&about, module, tape_options);
        // What it begins with is in the file before anybody is asked.
        let mut head = Vec::new();
        tape.take(&mut head);
        let head = [FIRST_LINE, &block(&head)].concat();
        let whole = head.len() as u64;
        let (path, file) = blocking(move || create(&folder, &name, &head)).await?;
        let keys = config.policy_keys.clone().into();
        let overseer = Arc::clone(&tape);
        let made = self.policies().make_overseen(&spec, group.label(), &keys, Some(overseer)).await;
        let recorded = match made {
            Ok(inside) => Arc::new(Recorded::new(Arc::clone(&tape), inside)),
            Err(source) => {
                remove(&path);
                return Err(ChangeError::Policy { group: group.id().clone(), source });
            }
        };
        let recording = Arc::new(Recording::new(tape, path, spec));
        recording.bytes.store(whole, Relaxed);
        self.put_to_work(
            group,
            (&serving, &recorded),
            &recording,
            Writer::new(file, group, &recording, &recorded, options),
        )?;
        Ok(recording.view(group.label()))
    }

    /// Has the recorded policy serve in the place of the one that does, and its notes written.
    fn put_to_work(
        &self,
        group: &Arc<Group>,
        (serving, recorded): (&Arc<dyn IBalancePolicy>, &Arc<Recorded>),
        recording: &Arc<Recording>,
        writer: Writer,
    ) -> Result<(), ChangeError> {
        let refused = |why: String| {
            recording.tape.end(&why);
            remove(&recording.file);
            ChangeError::RecordFailed(why)
        };
        if !group.exchange_policy(serving, Arc::clone(recorded) as _) {
            return Err(refused("the group was given another policy at the same moment".to_owned()));
        }
        if let Err(error) = vital::spawn("record", None, move || writer.run()) {
            let back = recorded.after();
            group.exchange_policy(&(Arc::clone(recorded) as _), back);
            return Err(refused(format!("cannot start a thread: {}", worded(&error))));
        }
        group.set_recording(Arc::clone(recording));
        let (group, policy) = (group.label().clone(), recording.policy.shared_name());
        let file = recording.file.display().to_string().into();
        tell(PolicyEvent::RecordStarted { group, policy, file });
        Ok(())
    }

    /// Ends a recording, and waits until its file is complete.
    ///
    /// # Errors
    ///
    /// The group is not recorded.
    pub async fn stop_recording(&self, group: &Arc<Group>) -> Result<RecordingView, ChangeError> {
        let active = group.recording().filter(|recording| recording.is_active());
        let recording = active.ok_or_else(|| ChangeError::NotRecording(group.id().clone()))?;
        recording.tape.end("it was stopped");
        // A disk that hangs keeps nobody waiting for ever; then the answer says that it goes on.
        let _ = timeout(END_TIME_MAX, recording.done.cancelled()).await;
        Ok(recording.view(group.label()))
    }

    /// The recordings under way, and the last one of each group.
    pub fn recordings(&self) -> Vec<RecordingView> {
        let groups = self.groups();
        groups.values().filter_map(|group| Some(group.recording()?.view(group.label()))).collect()
    }

    /// Ends all recordings: the process does.
    pub(super) fn end_recordings(&self) {
        for recording in self.groups().values().filter_map(|group| group.recording()) {
            recording.tape.end("the proxy was stopped");
        }
    }
}

/// `8081-20261129T194800Z.picks`.
fn file_name(about: &About) -> String {
    let seconds = about.started.get(..19).unwrap_or(&about.started);
    let moment: String = seconds.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{}-{moment}Z.{ENDING}", about.group)
}

/// Makes the file, which only we may read, and the folder, if that is not there.
fn create(folder: &Path, name: &str, head: &[u8]) -> Result<(PathBuf, File), ChangeError> {
    let path = folder.join(name);
    let failed = |error: io::Error| ChangeError::RecordFailed(format!("{}: {}", path.display(), worded(&error)));
    let of_folder =
        |error: io::Error| ChangeError::RecordFailed(format!("record_dir: {}: {}", folder.display(), worded(&error)));
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(of_folder(error)),
        _ => {}
    }
    let entries = fs::read_dir(folder).map_err(of_folder)?;
    let is_recording = |path: PathBuf| path.extension().is_some_and(|ending| ending == ENDING);
    if entries.flatten().filter(|entry| is_recording(entry.path())).count() >= RECORDINGS_MAX {
        let folder = folder.display().to_string();
        return Err(ChangeError::TooManyRecordings { folder, max: RECORDINGS_MAX });
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    if let Err(error) = file.write_all(head) {
        remove(&path);
        return Err(failed(error));
    }
    Ok((path, file))
}

/// Removes the file of a recording that does not begin.
fn remove(path: &Path) {
    // An empty recording does no harm.
    let _ = fs::remove_file(path);
}

/// Writes one recording.
struct Writer {
    file: File,
    /// So much of the file is whole blocks.
    whole: u64,
    group: Weak<Group>,
    recording: Arc<Recording>,
    /// Gone when the group has another policy.
    recorded: Weak<Recorded>,
    began: Instant,
    time: Option<Duration>,
    /// When the next warning is due.
    warn_at: Duration,
    broke: bool,
}

impl Writer {
    fn new(
        file: File,
        group: &Arc<Group>,
        recording: &Arc<Recording>,
        recorded: &Arc<Recorded>,
        options: RecordOptions,
    ) -> Self {
        Self {
            file,
            whole: recording.bytes.load(Relaxed),
            group: Arc::downgrade(group),
            recording: Arc::clone(recording),
            recorded: Arc::downgrade(recorded),
            began: Instant::now(),
            time: options.time,
            warn_at: LONG,
            broke: false,
        }
    }

    fn run(mut self) {
        let mut notes = Vec::new();
        loop {
            thread::park_timeout(PAUSE);
            let elapsed = self.began.elapsed();
            if self.time.is_some_and(|time| elapsed >= time) {
                self.recording.tape.end("its time was over");
            }
            if elapsed >= self.warn_at {
                self.warn_at += LONG;
                self.warn(elapsed);
            }
            let noted = self.recording.tape.take(&mut notes);
            self.take(&notes, noted.picks);
            if noted.is_over {
                break;
            }
        }
        // What was noted before it ended is what has to be kept.
        let synced = self.file.sync_data();
        if let Err(error) = synced {
            self.broke = true;
            self.recording.tape.end(&worded(&error));
        }
        self.finish();
    }

    fn take(&mut self, notes: &[u8], picks: u64) {
        if self.broke || notes.is_empty() {
            self.recording.lost.fetch_add(picks, Relaxed);
            return;
        }
        match self.write(notes) {
            Ok(()) => _ = self.recording.picks.fetch_add(picks, Relaxed),
            Err(error) => {
                self.broke = true;
                let why = format!("the file cannot be written: {}", worded(&error));
                self.recording.tape.end(&why);
                self.recording.lost.fetch_add(picks, Relaxed);
                // With room for it, the file says why it ends. Without, it is cut, and good up to there.
                let _ = self.back_to_whole().and_then(|()| self.write(&recorded::end_note(&why)));
            }
        }
    }

    fn write(&mut self, notes: &[u8]) -> io::Result<()> {
        let block = block(notes);
        self.file.write_all(&block)?;
        self.whole += block.len() as u64;
        self.recording.bytes.store(self.whole, Relaxed);
        Ok(())
    }

    /// Takes back what was written of a block.
    fn back_to_whole(&mut self) -> io::Result<()> {
        self.file.set_len(self.whole)?;
        self.file.seek(SeekFrom::Start(self.whole)).map(|_| ())
    }

    fn warn(&self, elapsed: Duration) {
        if let Some(group) = self.group.upgrade() {
            let (group, file) = (group.label().clone(), self.recording.file.display().to_string().into());
            tell(PolicyEvent::StillRecording { group, file, elapsed });
        }
    }

    /// The policy goes on without the recording.
    fn finish(self) {
        let Self { group, recording, recorded, broke, .. } = self;
        let group = group.upgrade();
        if let (Some(group), Some(recorded)) = (&group, recorded.upgrade()) {
            let without = recorded.after();
            group.exchange_policy(&(recorded as _), without);
        }
        if let Some(group) = group {
            let (group, policy) = (group.label().clone(), recording.policy.shared_name());
            let file = recording.file.display().to_string().into();
            let [picks, lost, bytes] = [&recording.picks, &recording.lost, &recording.bytes].map(|it| it.load(Relaxed));
            let why: Box<str> = recording.tape.why().unwrap_or_default().into();
            tell(match broke || recording.tape.is_too_slow() {
                true => PolicyEvent::RecordBroke { group, policy, file, picks, lost, bytes, why },
                false => PolicyEvent::RecordEnded { group, policy, file, picks, bytes, why },
            });
        }
        recording.done.cancel();
    }
}

fn tell(event: PolicyEvent) {
    events::publish(Event::Policy(event));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;
    use crate::policy::built_in;
    use crate::policy::spec::PolicySpec;
    use crate::server::{Origin, ServerSettings};

    #[test]
    fn a_disk_that_is_full_ends_the_recording_and_no_session_notices() {
        let options = RecordOptions { bytes_max: 1 << 20, time: None, is_anonymous: false };
        let about = About {
            goproxy: "1.0".to_owned(),
            group: "8081".to_owned(),
            port: 8081,
            started: "2026-11-29T19:48:00.000Z".to_owned(),
            policy: "round_robin".to_owned(),
            sessions_before: 0,
            is_anonymous: false,
            module: None,
        };
        let tape = Tape::new(&about, None, TapeOptions { bytes_max: 1 << 20, is_anonymous: false, sha256: None });
        let inside = built_in::make("round_robin").unwrap();
        let recorded = Arc::new(Recorded::new(Arc::clone(&tape), inside));
        let server = ServerSettings::new("127.0.0.1:1".parse().unwrap(), Origin::File);
        let settings = GroupSettings::for_tests("round_robin");
        let group = Arc::new(Group::new(settings, vec![server], Arc::clone(&recorded) as _));
        let recording = Arc::new(Recording::new(tape, "/dev/full".into(), PolicySpec::default()));
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writer = Writer::new(full, &group, &recording, &recorded, options);
        drop(recorded);
        let pick = || group.pick(([10, 0, 0, 1], 1).into(), &[], 1).unwrap();
        (0..3).for_each(|_| drop(pick()));
        writer.run();
        assert!(!recording.is_active());
        let view = recording.view(group.label());
        let why = view.why.unwrap();
        assert!(why.starts_with("the file cannot be written: No space left on device"), "{why}");
        assert_eq!((view.picks, view.lost), (0, 3));
        assert_eq!(pick().epoch, None, "the policy serves on, and nobody listens");
    }
}
