//! What happens at the admin port.

use tracing::Level;

use super::declare::{Field, kinds};
use super::fields::Visitor;

kinds! {
    /// What may become of the admin port.
    AdminEvent {
        /// It is there.
        INFO "admin listens"
        Listens {
            /// Where: `ip:port` or `unix:PATH`.
            "listen" listen: Box<str>,
            /// What is answered there: `admin`, `pprof` or `metrics`.
            "serves" serves: &'static str,
        }

        /// A request was answered.
        INFO "admin request" => "admin_change"
        Request {
            /// By which method.
            "method" method: Box<str>,
            /// Without the query, which may hold anything.
            "path" path: Box<str>,
            /// Who asked: `ip:port` or `unix`.
            "client.addr" client: Box<str>,
            /// The group that was meant, as it was written.
            "group" group: Option<Box<str>>,
            /// The server that was meant, as it was written.
            "server.addr" server: Option<Box<str>>,
            /// The status of the answer.
            "status" status: u16,
            /// The code of the refusal, or `ok`.
            "code" code: &'static str,
            /// How long the answer took.
            "elapsed_ms" elapsed_ms: u64,
            /// It changed nothing and comes by the thousand: a heartbeat. For the log only, at *debug*.
            is_routine: bool,
            /// An operator has changed something. Of all requests, viewers are told of these only.
            is_change: bool,
        }

        /// All its places are taken by requests under way.
        WARN "admin port is full and refuses connections"
        Full {
            /// How many places it has.
            "connections" connections: usize,
        }

        /// No descriptor is left for another connection.
        WARN "admin port cannot accept for now"
        Exhausted {
            /// What the system says.
            "error" error: Box<str>,
        }

        /// It is not there.
        ERROR "cannot serve the admin port"
        NotServed {
            /// What the system says.
            "error" error: Box<str>,
        }

        /// A connection ended by a mistake of ours.
        ERROR "admin connection ended with an internal error"
        ConnectionFailed {
            /// What is known of it.
            "error" error: Box<str>,
        }

        /// A change ended by a mistake of ours.
        ERROR "admin change failed with an internal error"
        ChangeFailed {
            /// What is known of it.
            "error" error: Box<str>,
        }

        /// An answer could not be made by a mistake of ours.
        ERROR "admin answer failed with an internal error"
        AnswerFailed {
            /// What is known of it.
            "error" error: Box<str>,
            /// What was asked for.
            "what" what: Box<str>,
        }

        /// The process stops although changes have not ended.
        WARN "admin changes are still under way at the end"
        Unfinished {
            /// How many.
            "changes" changes: usize,
        }
    }
}
