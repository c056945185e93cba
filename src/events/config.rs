//! What happens to the configuration and to its files.

use tracing::Level;

use super::declare::{Field, kinds};
use super::fields::Visitor;

kinds! {
    /// What may become of the configuration.
    ConfigEvent {
        /// Another configuration is in force. Follows every change, whoever asked for it.
        DEBUG "configuration applied"
        Applied

        /// A reload has changed something: the groups and settings by name.
        INFO "proxy.json reloaded" => "reload"
        Reloaded {
            /// Groups that were opened.
            "opened" opened: Box<[Box<str>]>,
            /// Groups that were closed.
            "closed" closed: Box<[Box<str>]>,
            /// Groups that were changed.
            "changed" changed: Box<[Box<str>]>,
            /// Other keys that were changed.
            "settings" settings: Box<[Box<str>]>,
            /// What has changed, from what to what.
            "changes" changes: Box<[Box<str>]>,
        }

        /// A changed key takes effect at the next start.
        WARN "changed in proxy.json; takes effect at the next start" => "reload"
        AtRestart {
            /// The key.
            "setting" setting: Box<str>,
        }

        /// The mistakes were taken back.
        INFO "proxy.json is in order again: nothing to do" => "reload"
        InOrderAgain

        /// The file names others now.
        DEBUG "proxy.json names other files"
        OtherFilesChanged

        /// A secret cannot be read any more, and the former one stays in force.
        WARN "secret cannot be read: the former one stays in force"
        SecretKept {
            /// Which one, and why.
            "error" why: Box<str>,
        }

        /// All secrets can be read again.
        INFO "secrets can be read again"
        SecretsRead

        /// A list of networks cannot be read any more, and the former one stays in force.
        WARN "list of networks cannot be read: the former one stays in force"
        ListKept {
            /// Which one, and why.
            "error" why: Box<str>,
        }

        /// All lists can be read again.
        INFO "lists of networks can be read again"
        ListsRead

        /// A certificate and its key cannot be used as they are now, and the former ones stay in force.
        WARN "certificate cannot be used: the former one stays in force"
        CertificateKept {
            /// Which one, and why.
            "error" why: Box<str>,
        }

        /// All certificates can be used again.
        INFO "certificates can be used again"
        CertificatesRead

        /// Servers of a group need not prove who they are.
        WARN "server_tls.verify is false: whoever is on the way to the servers can read everything"
        ServersUnverified {
            /// All groups of which that is so.
            "groups" groups: Box<[Box<str>]>,
        }

        /// A certificate has few days left.
        WARN "certificate expires"
        CertificateExpires {
            /// The first name that it is for.
            "name" name: Box<str>,
            /// When.
            "not_after" not_after: Box<str>,
            /// So many days are left, the one that has begun included.
            "days" days: u64,
            /// Where it is.
            "file" file: Box<str>,
        }

        /// A certificate is not valid any more, and clients are shown it all the same.
        WARN "certificate has expired: clients are shown it all the same"
        CertificateExpired {
            /// The first name that it is for.
            "name" name: Box<str>,
            /// When.
            "not_after" not_after: Box<str>,
            /// Where it is.
            "file" file: Box<str>,
        }

        /// The file says what is in force already.
        DEBUG "proxy.json read again: nothing to do"
        Unchanged

        /// The same, and an operator had asked for it.
        INFO "reload: nothing to do"
        NothingToDo

        /// The file was not taken.
        WARN "proxy.json refused: what runs stays as it is" => "reload_failed"
        Refused {
            /// Why.
            "error" error: Box<str>,
        }

        /// One mistake of a file that was not taken.
        WARN "mistake in proxy.json" => "reload_failed"
        Mistake {
            /// `FILE:LINE:COL: …`
            "problem" problem: Box<str>,
        }

        /// The file had the form of the old program and has the new one now.
        WARN "file of the old program converted; a copy is kept"
        Converted {
            /// The file.
            "path" path: Box<str>,
            /// The copy.
            "kept" kept: Box<str>,
        }

        /// The file says something else of a value than it did when the value was changed over HTTP: the file wins.
        WARN "proxy.json overrules what a change over HTTP said" => "reload"
        Overruled {
            /// The group.
            "group" group: Box<str>,
            /// The server, if it was one of a server.
            "server.addr" server: Option<Box<str>>,
            /// The key.
            "key" key: Box<str>,
            /// What it was changed to.
            "was" was: Box<str>,
            /// What the file says, or why it cannot be kept.
            "now" now: Box<str>,
        }

        /// What changes over HTTP have said was torn.
        WARN "state file cannot be used: it is set aside, and proxy.json alone is in force"
        StateSetAside {
            /// The file.
            "path" path: Box<str>,
            /// Where it is now.
            "kept" kept: Box<str>,
            /// What is wrong with it.
            "error" error: Box<str>,
        }

        /// The state file cannot be written, so that changes over HTTP are refused, or forgotten at the next start.
        WARN "state file cannot be written"
        StateNotWritten {
            /// The file.
            "path" path: Box<str>,
            /// What the system says.
            "error" error: Box<str>,
        }

        /// Attributes of the file that only others may set are gone with its old text.
        WARN "file saved without attributes that cannot be set"
        AttributesLost {
            /// The file.
            "path" path: Box<str>,
            /// Their names.
            "attributes" attributes: Box<str>,
        }

        /// The file has other names, under which its old text stays.
        WARN "file saved under this name alone: its other hard links keep the old text"
        LinksLeft {
            /// The file.
            "path" path: Box<str>,
            /// How many other names.
            "others" others: u64,
        }

        /// The file cannot be found.
        WARN "file gone; what was read from it stays in force" => "reload_failed"
        FileGone {
            /// The file.
            "path" path: Box<str>,
            /// What the system says.
            "error" error: Box<str>,
        }

        /// The system does not tell of changed files: they are looked at from time to time.
        WARN "files polled"
        FilesPolled {
            /// One of the files.
            "path" path: Box<str>,
            /// What the system says.
            "error" error: Box<str>,
            /// How often they are looked at.
            "poll_ms" poll_ms: u64,
        }

        /// The system tells of changed files again.
        INFO "files watched again"
        FilesWatched {
            /// One of the files.
            "path" path: Box<str>,
        }

        /// Whoever told of changed files has ended, and another does.
        WARN "files watched anew: the thread that did has ended"
        FilesWatchedAnew {
            /// One of the files.
            "path" path: Box<str>,
        }

        /// The file is mounted by itself, so that a part of its changes goes unnoticed.
        WARN "the file is a mount point: edits in place are noticed, but not a new file that is renamed over it where it comes from; mount its folder for that"
        FileMounted {
            /// The file.
            "path" path: Box<str>,
        }
    }
}
