//! The keys of `access_log`.

use crate::access::{AccessFormat, AccessPath, AccessPrefix, AccessSettings};
use crate::config::declare::settings;
use crate::config::kinds::{Section, log_path, section_with, switch, word};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;

settings! {
    impl AccessSettings {
        /// How a line looks. text and json: as session closed in the log of the process; haproxy: as HAProxy writes a TCP session.
        format as word::<AccessFormat>() => AccessFormat::Json, AtOnce;
        /// stderr, or a file (relative to the folder of this file), which is made where it is missing. A USR1 has it opened
        /// again, after it was renamed.
        path as log_path() => AccessPath::Stderr, AtOnce;
        /// True: there is a line also when a client has connected.
        connect_line as switch() => false, AtOnce;
        /// With format haproxy: what stands in front. syslog: time, host and program, which parsers of its log expect; none.
        prefix as word::<AccessPrefix>() => AccessPrefix::Syslog, AtOnce;
    }
}

/// An access log.
pub(in crate::config) const fn access_log() -> Section<AccessSettings> {
    section_with(check_access).written_where(is_access_key)
}

/// True for a key that says something of this log.
fn is_access_key(access: &AccessSettings, key: &str) -> bool {
    match key {
        "prefix" => access.format == AccessFormat::Haproxy,
        "connect_line" => access.format != AccessFormat::Haproxy,
        _ => true,
    }
}

/// Reports what does not fit together.
fn check_access(reader: &mut Reader, object: &Object, access: &AccessSettings) {
    let message = match access.format {
        AccessFormat::Haproxy if access.connect_line => {
            ("connect_line", "HAProxy has one line for each session; expected it with format text or json only")
        }
        AccessFormat::Text | AccessFormat::Json if object.says("prefix") => ("prefix", "only with format haproxy"),
        _ => return,
    };
    reader.problems.add(object.offset(message.0), Place::Key(object.place, message.0), message.1);
}
