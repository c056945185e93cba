//! A module in use: its file, the version that is loaded, and the slots where instances of it are at work.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::compiled::Compiled;
use super::error::ModuleError;
use super::fault::Fault;
use super::files;
use super::loader::Loader;
use super::record::ModuleRecord;
use super::slot::Slot;
use super::source::{self, Limits};
use super::status::{Common, ModuleStatus, Version};
use crate::base::text::hex;
use crate::events::{self, Event, PolicyEvent};

/// A module in use.
pub(super) struct Module {
    pub(super) status: ModuleStatus,
    /// The version that is loaded.
    pub(super) compiled: Option<Arc<Compiled>>,
    /// The version that was loaded before, which returns when this one names nobody.
    former: Option<(Arc<Compiled>, Version)>,
    /// The content that was refused last.
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
    ) -> Result<(), ModuleError> {
        // Whatever was refused may fit the budget of the policy that is made now.
        self.refused = None;
        if self.compiled.is_some() {
            return Ok(());
        }
        let path = files::find(&common.folder, self.status.name())?;
        self.status.file = files::file_name(&path);
        let limits = self.limits(common, budget);
        let compiled = loader.load(&path, &files::read(&path, limits.file_bytes_max)?, limits)?;
        self.compiled = Some(Arc::new(compiled));
        Ok(())
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

    /// Looks at the file. True when it has to be looked at again soon.
    pub(super) fn look(&mut self, name: &str, loader: &mut Loader, common: &Common) -> bool {
        let read =
            files::find(&common.folder, name).and_then(|path| Ok((files::read(&path, common.file_bytes_max)?, path)));
        let (bytes, path) = match read {
            Ok(read) => read,
            Err(error) => {
                self.refuse(None, error.to_string());
                return false;
            }
        };
        if self.compiled.is_none() {
            self.status.file = files::file_name(&path);
        }
        let sha256 = source::sha256(&bytes);
        if self.status.version.as_ref().is_some_and(|version| version.sha256 == sha256) {
            (self.refused, self.incomplete) = (None, None);
            if self.status.error.take().is_some() {
                tell(PolicyEvent::FileInOrderAgain { policy: Arc::clone(&self.status.shared.policy) });
            }
            return false;
        }
        if self.refused == Some(sha256) {
            return false;
        }
        let loaded = loader.load(&path, &bytes, self.limits(common, Duration::ZERO));
        if let Err(error) = &loaded
            && error.is_incomplete
            && self.incomplete.replace(sha256) != Some(sha256)
        {
            return true;
        }
        let taken =
            loaded.map_err(ModuleError::from).and_then(|compiled| self.take_over(Arc::new(compiled), Takeover::Newer));
        if let Err(error) = taken {
            self.refuse(Some(sha256), error.to_string());
        }
        false
    }

    /// This version names no server: the one before it returns, if there is one.
    pub(super) fn return_to_former(&mut self, failed: &Arc<Compiled>, fault: &Fault) {
        // Another version may have taken over meanwhile.
        if !self.compiled.as_ref().is_some_and(|compiled| Arc::ptr_eq(compiled, failed)) {
            return;
        }
        let Some((former, version)) = self.former.take() else { return };
        let (policy, sha256) = (Arc::clone(&self.status.shared.policy), failed.file.sha256);
        if let Err(error) = self.take_over(former, Takeover::Former) {
            tell(PolicyEvent::CannotReturn { policy, error: error.to_string().into() });
            return;
        }
        // What it says of itself is known: it was at work before.
        self.status.version = Some(version);
        self.former = None;
        self.refuse(
            Some(sha256),
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
    fn refuse(&mut self, sha256: Option<[u8; 32]>, text: String) {
        let is_another = sha256.is_some() && self.refused != sha256;
        self.status.shared.counters.refusals.fetch_add(u64::from(is_another), Relaxed);
        self.refused = sha256;
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
        Self { file: files::file_name(&compiled.path), version, sha256: compiled.file.sha256 }
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
