//! Instances of a compiled module: the trial run that every module has to pass, and putting an instance to work.

use std::net::SocketAddr;
use std::sync::Arc;

use super::compiled::Compiled;
use super::error::ModuleError;
use super::fault::Fault;
use super::host::{GuestLog, KeptLines};
use super::instance::{Description, Instance, with_retries};
use super::slot::Slot;
use crate::base::clock;
use crate::base::text::hex;
use crate::policy::balance::{PickRequest, ServerSet};
use crate::policy::oversee::Birth;
use crate::policy::spec::ModuleSpec;
use crate::server::{Avoided, Live, Origin, Server, ServerId, ServerSettings};

impl Compiled {
    /// Makes an instance for a group, after a throw-away one has shown that the module works as configured:
    /// it describes itself, takes two servers, and names one of them or none.
    ///
    /// # Errors
    ///
    /// The content is not the one that is wanted, the configuration is refused, or a call fails.
    pub(super) fn instance(
        &self,
        spec: &ModuleSpec,
        group: u16,
        log: &Arc<GuestLog>,
    ) -> Result<(Instance, Description), ModuleError> {
        self.born_instance(spec, group, log, None)
    }

    /// The same; one that repeats when it is born with the same.
    ///
    /// # Errors
    ///
    /// As [`Compiled::instance`].
    pub(super) fn born_instance(
        &self,
        spec: &ModuleSpec,
        group: u16,
        log: &Arc<GuestLog>,
        birth: Option<Birth>,
    ) -> Result<(Instance, Description), ModuleError> {
        let refused = |problem: String| ModuleError::File { place: self.path.display().to_string(), problem };
        if let Some(wanted) = spec.sha256.filter(|_| !self.is_wanted(spec)) {
            let (found, wanted) = (hex(&self.file.sha256), hex(&wanted));
            return Err(refused(format!("its sha256 is {found}; expected {wanted}, as the configuration says")));
        }
        let lines = log.lines_of_trial();
        let description = with_retries(|| self.trial(spec, group, &lines)).map_err(|fault| {
            let said = lines.first_error().map_or_else(String::new, |said| format!("; it said: {said}"));
            refused(format!("{}{said}", fault.text))
        })?;
        let instance = with_retries(|| Instance::born(self, spec, group, Arc::clone(log), birth));
        Ok((instance.map_err(|fault| refused(fault.text))?, description))
    }

    /// Puts an instance to work in a slot: this one, or one made now.
    ///
    /// # Errors
    ///
    /// It cannot be made, or cannot be told the servers; what is in the slot stays.
    pub(super) fn put(self: &Arc<Self>, mut instance: Option<Instance>, slot: &Slot) -> Result<(), Fault> {
        if slot.is_overseen() {
            return self.put_born(slot);
        }
        let make = || Instance::new(self, &slot.spec, slot.group.port(), Arc::clone(&slot.log));
        with_retries(|| slot.put(instance.take().map_or_else(make, Ok)?, self))
    }

    /// The same where somebody follows the slot's instances, and says what each is born with.
    fn put_born(self: &Arc<Self>, slot: &Slot) -> Result<(), Fault> {
        with_retries(|| {
            let birth = slot.birth();
            let instance = Instance::born(self, &slot.spec, slot.group.port(), Arc::clone(&slot.log), birth)?;
            slot.put_between_requests(instance, self, birth)
        })
    }

    fn trial(&self, spec: &ModuleSpec, group: u16, lines: &Arc<KeptLines>) -> Result<Description, Fault> {
        let mut instance = Instance::new(self, spec, group, Arc::new(GuestLog::keeping(lines)))?;
        let description = instance.describe()?;
        let set = trial_servers();
        instance.set_servers(&set, &[])?;
        let client = "192.0.2.1:40000".parse().expect("this is an address");
        let picked = instance.pick(&PickRequest {
            client,
            group,
            attempt: 0,
            servers: &set,
            tried: &[],
            avoided: Avoided::DOUBTFUL,
            now_ms: clock::coarse_ms(),
            random: fastrand::u64(..),
        })?;
        match picked.filter(|id| instance.index_of(*id).is_none()) {
            None => Ok(description),
            Some(id) => Err(Fault::unfit(format!(
                "pick answered {id} when there were the servers 1 and 2; expected one of them"
            ))),
        }
    }
}

/// Two servers that nobody connects to.
fn trial_servers() -> Arc<ServerSet> {
    let server = |id: u32| {
        let addr = SocketAddr::from(([192, 0, 2, 100 + id as u8], 9_000));
        let settings = ServerSettings::new(addr.into(), Origin::File);
        Arc::new(Server { id: ServerId(id), settings, live: Arc::new(Live::new(vec![addr])) })
    };
    Arc::new(ServerSet { generation: 1, backup: false, servers: vec![server(1), server(2)] })
}
