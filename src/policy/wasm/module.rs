//! A module in use: its file, the version that is loaded, and the slots where instances of it are at work.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::compiled::Compiled;
use super::error::ModuleError;
use super::fault::Fault;
use super::files::{self, Found, LoadError};
use super::loader::Loader;
use super::record::ModuleRecord;
use super::slot::Slot;
use super::source::{Limits, PolicyKey, PolicyKeys};
use super::status::{Common, ModuleStatus, Version};
use crate::base::text::hex;
use crate::events::{self, Event, PolicyEvent};

/// A file that ends in the middle is looked at again after this time before it is called broken.
const INCOMPLETE_TIME: Duration = Duration::from_secs(1);

/// The same where it may be the other of two files, module and signature, that is still to come.
const UNSIGNED_TIME: Duration = Duration::from_secs(2);

/// A module in use.
pub(super) struct Module {
    pub(super) status: ModuleStatus,
    /// The version that is loaded.
    pub(super) compiled: Option<Arc<Compiled>>,
    /// The version that was loaded before, which returns when this one names nobody.
    former: Option<(Arc<Compiled>, Version)>,
    /// The content of the file and its signature that was refused last.
    refused: Option<[u8; 32]>,
    /// The content that ended in the middle when it was seen last.
    incomplete: Option<[u8; 32]>,
}

/// Which version is put to work.
#[derive(Clone, Copy)]
enum Takeover {
    /// The first one that could be loaded.
    First,
    /// The one that the file has become.
    Newer,
    /// The one before, because this one names nobody.
    Former,
}

impl Module {
    pub(super) fn new(name: &str) -> Self {
        Self { status: ModuleStatus::new(name), compiled: None, former: None, refused: None, incomplete: None }
    }

    /// Loads the file, unless a version is loaded.
    ///
    /// # Errors
    ///
    /// There is no such file, or it is no module that fits.
    pub(super) fn load_if_needed(
        &mut self,
        loader: &mut Loader,
        common: &Common,
        budget: Duration,
        keys: &PolicyKeys,
    ) -> Result<(), ModuleError> {
        // Whatever was refused may fit the budget of the policy that is made now.
        self.refused = None;
        if self.compiled.is_some() && keys.accept(self.signer()) {
            return Ok(());
        }
        let path = files::find(&common.folder, self.status.name())?;
        let limits = self.limits(common, budget);
        let found = Found::read(path, limits.file_bytes_max, keys)?;
        if self.compiled.is_some() {
            // Other keys will be in force in a moment: then whatever the file is by now takes over everywhere.
            found.signer?;
            return Ok(());
        }
        self.status.file = files::file_name(&found.path);
        self.compiled = Some(Arc::new(loader.load(found, limits)?));
        Ok(())
    }

    /// The key that signed the version that is loaded.
    fn signer(&self) -> Option<&PolicyKey> {
        let compiled = || self.compiled.as_ref().and_then(|compiled| compiled.signer.as_ref());
        self.status.version.as_ref().map_or_else(compiled, |version| version.signer.as_ref())
    }

    /// What the file may be: as much as any of the policies that use it allows.
    fn limits(&self, common: &Common, budget: Duration) -> Limits {
        let slots = self.status.slots.iter().filter_map(Weak::upgrade);
        let compile_budget = slots.map(|slot| slot.spec.compile_budget).fold(budget, Duration::max);
        Limits { file_bytes_max: common.file_bytes_max, compile_budget }
    }

    /// Puts an instance of the loaded version into a slot of a policy that is being made.
    ///
    /// # Errors
    ///
    /// The configuration is refused, or a call fails.
    pub(super) fn put(&mut self, slot: &Slot) -> Result<(), ModuleError> {
        let compiled = self.compiled.as_ref().expect("loaded before");
        let (instance, description) = compiled.instance(&slot.spec, slot.group.port(), &slot.log)?;
        compiled.put(Some(instance), slot).map_err(|fault| ModuleError::Instance(fault.text))?;
        if self.status.version.is_none() {
            let version = Version::new(compiled, description.version);
            version.tell(&self.status.shared, compiled, Takeover::First);
            self.status.version = Some(version);
        }
        Ok(())
    }

    /// Modules may be signed with other keys now: what was refused may be signed by one of them.
    pub(super) fn keys_changed(&mut self) {
        (self.refused, self.incomplete) = (None, None);
    }

    /// Looks at the file. Says after which time it has to be looked at again.
    pub(super) fn look(&mut self, name: &str, loader: &mut Loader, common: &Common) -> Option<Duration> {
        let keys = common.keys();
        let again = self.look_at_file(name, loader, common, &keys);
        if !keys.accept(self.signer()) && self.compiled.is_some() {
            self.withdraw();
        }
        again
    }

    fn look_at_file(
        &mut self,
        name: &str,
        loader: &mut Loader,
        common: &Common,
        keys: &PolicyKeys,
    ) -> Option<Duration> {
        let read = files::find(&common.folder, name).and_then(|path| Found::read(path, common.file_bytes_max, keys));
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                self.refuse(None, error.to_string());
                return None;
            }
        };
        if self.compiled.is_none() {
            self.status.file = files::file_name(&found.path);
        }
        let (content, is_signed) = (found.content, found.signer.is_ok());
        if let Ok(signer) = &found.signer
            && let Some(version) = self.status.version.as_mut().filter(|version| version.sha256 == found.sha256)
        {
            version.signer.clone_from(signer);
            (self.refused, self.incomplete) = (None, None);
            if self.status.error.take().is_some() {
                tell(PolicyEvent::FileInOrderAgain { policy: Arc::clone(&self.status.shared.policy) });
            }
            return None;
        }
        if self.refused == Some(content) {
            return None;
        }
        let loaded = loader.load(found, self.limits(common, Duration::ZERO));
        if loaded.as_ref().is_err_and(|error| self.is_to_come(error, content)) {
            return Some(if is_signed { INCOMPLETE_TIME } else { UNSIGNED_TIME });
        }
        let taken =
            loaded.map_err(ModuleError::from).and_then(|compiled| self.take_over(Arc::new(compiled), Takeover::Newer));
        if let Err(error) = taken {
            self.refuse(Some(content), error.to_string());
        }
        None
    }

    /// True when the rest of the file may still be to come, as nobody has waited for it yet.
    fn is_to_come(&mut self, error: &LoadError, content: [u8; 32]) -> bool {
        error.is_incomplete && self.incomplete.replace(content) != Some(content)
    }

    /// The version that is loaded was signed with a key that counts no longer, or not at all: the fallback serves.
    fn withdraw(&mut self) {
        let signed = match self.signer() {
            Some(key) => format!("was signed with key {}, which is not among policy_keys any more", key.number()),
            None => "is not signed with one of policy_keys".to_owned(),
        };
        self.status.slots.iter().filter_map(Weak::upgrade).for_each(|slot| slot.withdraw());
        let (policy, version) = (Arc::clone(&self.status.shared.policy), self.status.version.take());
        (self.compiled, self.former) = (None, None);
        let error = format!("the loaded version {signed}");
        let version = version.map(|version| version.version).unwrap_or_default();
        tell(PolicyEvent::Withdrawn { policy, error: error.as_str().into(), version: version.into() });
        // What is wrong with the file says more, where that is known by now.
        self.status.error.get_or_insert(error);
    }

    /// This version names no server: the one before it returns, if there is one that may.
    pub(super) fn return_to_former(&mut self, failed: &Arc<Compiled>, fault: &Fault, keys: &PolicyKeys) {
        // Another version may have taken over meanwhile.
        if !self.compiled.as_ref().is_some_and(|compiled| Arc::ptr_eq(compiled, failed)) {
            return;
        }
        let former = self.former.take();
        let Some((former, version)) = former.filter(|(_, version)| keys.accept(version.signer.as_ref())) else {
            return;
        };
        let policy = Arc::clone(&self.status.shared.policy);
        let content = failed.content;
        if let Err(error) = self.take_over(former, Takeover::Former) {
            tell(PolicyEvent::CannotReturn { policy, error: error.to_string().into() });
            return;
        }
        // What it says of itself is known: it was at work before.
        self.status.version = Some(version);
        self.former = None;
        self.refuse(
            Some(content),
            format!("{}: {}; the former version has returned", failed.path.display(), fault.text),
        );
    }

    /// Puts another version to work in every slot, or in none.
    fn take_over(&mut self, compiled: Arc<Compiled>, takeover: Takeover) -> Result<(), ModuleError> {
        let slots: Vec<Arc<Slot>> =
            self.status.slots.iter().filter_map(Weak::upgrade).filter(|slot| slot.is_needed()).collect();
        let mut ready = Vec::with_capacity(slots.len());
        let mut said = None;
        for slot in slots {
            let made = compiled.instance(&slot.spec, slot.group.port(), &slot.log);
            // Each group has a configuration of its own, and the file is that of all of them.
            let (instance, description) = made.map_err(|error| error.for_group(&slot.group))?;
            said = Some(description.version);
            ready.push((slot, instance));
        }
        for (slot, instance) in ready {
            slot.forgive();
            if let Err(fault) = compiled.put(Some(instance), &slot) {
                // It took two servers and fails on those of the group: as if it had failed later.
                slot.failed(fault);
            }
        }
        let version = Version::new(&compiled, said.unwrap_or_default());
        let is_first = self.status.version.is_none();
        version.tell(&self.status.shared, &compiled, if is_first { Takeover::First } else { takeover });
        self.status.shared.counters.swaps.fetch_add(u64::from(!is_first), Relaxed);
        self.status.file.clone_from(&version.file);
        let former = self.status.version.replace(version);
        self.former = self.compiled.replace(compiled).zip(former);
        self.status.error = None;
        (self.refused, self.incomplete) = (None, None);
        Ok(())
    }

    /// The file as it is cannot be used; what is loaded stays.
    fn refuse(&mut self, content: Option<[u8; 32]>, text: String) {
        let is_another = content.is_some() && self.refused != content;
        self.status.shared.counters.refusals.fetch_add(u64::from(is_another), Relaxed);
        self.refused = content;
        self.incomplete = None;
        if self.status.error.as_ref() == Some(&text) {
            return;
        }
        let (policy, error) = (Arc::clone(&self.status.shared.policy), text.as_str().into());
        tell(match &self.status.version {
            Some(version) => PolicyEvent::Refused { policy, error, version: version.version.as_str().into() },
            None => PolicyEvent::NotLoaded { policy, error },
        });
        self.status.error = Some(text);
    }
}

impl Version {
    fn new(compiled: &Compiled, version: String) -> Self {
        Self {
            file: files::file_name(&compiled.path),
            version,
            sha256: compiled.file.sha256,
            signer: compiled.signer.clone(),
        }
    }

    fn tell(&self, shared: &ModuleRecord, compiled: &Compiled, takeover: Takeover) {
        let (policy, compile_time) = (Arc::clone(&shared.policy), compiled.compile_time);
        let (version, sha256) = (self.version.as_str().into(), hex(&self.sha256).into());
        tell(match takeover {
            Takeover::First => PolicyEvent::Loaded { policy, version, sha256, compile_time },
            Takeover::Newer => PolicyEvent::Swapped { policy, version, sha256, compile_time },
            Takeover::Former => PolicyEvent::Returned { policy, version, sha256, compile_time },
        });
    }
}

fn tell(event: PolicyEvent) {
    events::publish(Event::Policy(event));
}
