//! What happens to modules and to those who use them.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::declare::{Field, kinds};
use super::fields::Visitor;
use crate::base::label::GroupLabel;

kinds! {
    /// What may become of a module. `policy` is `wasm:NAME`.
    PolicyEvent {
        /// Other files of modules are wanted.
        DEBUG "other policy files wanted"
        FilesChanged

        /// Its first version is at work.
        INFO "policy loaded" => "policy_loaded"
        Loaded {
            /// The module.
            "policy" policy: Arc<str>,
            /// What it says of itself.
            "version" version: Box<str>,
            /// Of its file.
            "sha256" sha256: Box<str>,
            /// How long it took to compile.
            "compile_ms" compile_time: Duration,
        }

        /// Another version has taken over.
        INFO "policy swapped" => "policy_loaded"
        Swapped {
            /// The module.
            "policy" policy: Arc<str>,
            /// What it says of itself.
            "version" version: Box<str>,
            /// Of its file.
            "sha256" sha256: Box<str>,
            /// How long it took to compile.
            "compile_ms" compile_time: Duration,
        }

        /// The version named no server, and the one before it has taken over again. The refusal of its file follows.
        INFO "policy returned to its former version" => "policy_loaded"
        Returned {
            /// The module.
            "policy" policy: Arc<str>,
            /// What the former version says of itself.
            "version" version: Box<str>,
            /// Of the former file.
            "sha256" sha256: Box<str>,
            /// How long it took to compile.
            "compile_ms" compile_time: Duration,
        }

        /// The version named no server, and the one before it cannot take over.
        WARN "the former version of the policy cannot return" => "policy_refused"
        CannotReturn {
            /// The module.
            "policy" policy: Arc<str>,
            /// Why.
            "error" error: Box<str>,
        }

        /// Its file as it is cannot be used; the version that was loaded before serves.
        WARN "policy file refused: the loaded version stays" => "policy_refused"
        Refused {
            /// The module.
            "policy" policy: Arc<str>,
            /// Why.
            "error" error: Box<str>,
            /// What the loaded version says of itself.
            "version" version: Box<str>,
        }

        /// Its file as it is cannot be used, and no version was loaded before.
        WARN "policy file refused: the fallback serves" => "policy_refused"
        NotLoaded {
            /// The module.
            "policy" policy: Arc<str>,
            /// Why.
            "error" error: Box<str>,
        }

        /// The version that serves was signed with a key that counts no longer.
        ERROR "policy withdrawn: the fallback serves" => "policy_refused"
        Withdrawn {
            /// The module.
            "policy" policy: Arc<str>,
            /// Which key, or none.
            "error" error: Box<str>,
            /// What that version says of itself.
            "version" version: Box<str>,
        }

        /// A file that was refused was taken back.
        INFO "the policy's file is the one that is loaded again" => "policy_loaded"
        FileInOrderAgain {
            /// The module.
            "policy" policy: Arc<str>,
        }

        /// A group is served by the fallback until the module's file has become another.
        ERROR "policy cannot be used: its fallback serves" => "policy_refused"
        Unusable {
            /// Who is served.
            "group" group: GroupLabel,
            /// The module.
            "policy" policy: Arc<str>,
            /// Why.
            "error" error: Box<str>,
            /// Who answers.
            "fallback" fallback: &'static str,
        }

        /// A group is served by the fallback for good.
        ERROR "policy cannot be made: its fallback serves" => "policy_refused"
        NotMade {
            /// Who is served.
            "group" group: GroupLabel,
            /// The module.
            "policy" policy: Arc<str>,
            /// Why.
            "error" error: Box<str>,
            /// Who answers.
            "fallback" fallback: &'static str,
        }

        /// One call has failed.
        WARN "policy failed: its fallback answers" => "policy_fault"
        Failed {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
            /// How.
            "fault" fault: Box<str>,
            /// Who answers.
            "fallback" fallback: &'static str,
        }

        /// Calls have failed so often that the module is not asked for a while.
        WARN "policy failed too often: its fallback serves" => "policy_quarantined"
        SetAside {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
            /// How it failed last.
            "fault" fault: Box<str>,
            /// Who answers.
            "fallback" fallback: &'static str,
            /// For how long.
            "pause_ms" pause: Duration,
        }

        /// A module that was set aside is asked again.
        INFO "policy is given another try"
        AnotherTry {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
        }

        /// A module that failed has answered many times.
        INFO "policy works again" => "policy_recovered"
        WorksAgain {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
        }

        /// It named none of the servers to a client, which is refused. Told once for each version.
        WARN "policy named no server though one is open: the client is refused" => "policy_fault"
        NamesNobody {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
        }

        /// It has named nobody yet, so the fallback answers. Told once for each version.
        WARN "policy named no server though one is open: its fallback answers" => "policy_fault"
        NamesNobodyYet {
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
            /// Who answers.
            "fallback" fallback: &'static str,
        }

        /// A policy is asked what the one that serves is asked, off the data path.
        INFO "policy is tried beside another" => "shadow_started"
        ShadowStarted {
            /// Whose.
            "group" group: GroupLabel,
            /// The one that serves.
            "policy" policy: Arc<str>,
            /// The one beside it.
            "candidate" candidate: Arc<str>,
        }

        /// It is asked no more.
        INFO "policy is not tried any more" => "shadow_ended"
        ShadowEnded {
            /// Whose.
            "group" group: GroupLabel,
            /// The one that was beside the one that serves.
            "candidate" candidate: Arc<str>,
            /// How often it was asked.
            "picks" picks: u64,
            /// How often it failed.
            "faults" faults: u64,
        }

        /// It is too slow to be asked everything.
        WARN "policy that is tried has missed picks"
        ShadowHoles {
            /// Whose.
            "group" group: GroupLabel,
            /// The one beside the one that serves.
            "candidate" candidate: Arc<str>,
        }

        /// Something in the proxy failed that asks it. Sessions are not concerned.
        ERROR "cannot try the policy any more" => "shadow_ended"
        ShadowFailed {
            /// Whose.
            "group" group: GroupLabel,
            /// The one beside the one that serves.
            "candidate" candidate: Arc<str>,
        }

        /// What a group's policy is asked and answers is recorded from now on, with a fresh policy.
        INFO "recording picks" => "record_started"
        RecordStarted {
            /// Whose.
            "group" group: GroupLabel,
            /// Which.
            "policy" policy: Arc<str>,
            /// Where it is written.
            "file" file: Box<str>,
        }

        /// A recording is complete.
        INFO "recording ended" => "record_ended"
        RecordEnded {
            /// Whose.
            "group" group: GroupLabel,
            /// Which.
            "policy" policy: Arc<str>,
            /// Where it was written.
            "file" file: Box<str>,
            /// Picks in it.
            "picks" picks: u64,
            /// Its size.
            "bytes" bytes: u64,
            /// Why it has ended.
            "why" why: Box<str>,
        }

        /// A recording has ended because its file cannot be written, or not fast enough. It is good up to there.
        WARN "recording broke off" => "record_ended"
        RecordBroke {
            /// Whose.
            "group" group: GroupLabel,
            /// Which.
            "policy" policy: Arc<str>,
            /// Where it was written.
            "file" file: Box<str>,
            /// Picks in it.
            "picks" picks: u64,
            /// Picks that came after those and are not in it.
            "lost" lost: u64,
            /// Its size.
            "bytes" bytes: u64,
            /// Why it has ended.
            "why" why: Box<str>,
        }

        /// A recording goes on for hours. It is a tool, not a mode to live in: sessions ask one after the other.
        WARN "picks are still recorded"
        StillRecording {
            /// Whose.
            "group" group: GroupLabel,
            /// Where it is written.
            "file" file: Box<str>,
            /// For how long.
            "elapsed_ms" elapsed: Duration,
        }

        /// The module has used `host.log`; the level is the one that it chose.
        INFO "policy says"
        Says {
            /// How much it matters, as the module says.
            level: Level,
            /// The module.
            "policy" policy: Arc<str>,
            /// Whom it answers.
            "group" group: GroupLabel,
            /// What it says.
            "text" text: Box<str>,
        }
    }
}
