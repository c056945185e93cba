//! The kinds of values that keys have: each is read, written and described in one place.
//!
//! A kind reports what is wrong with one value, as *expected …, found …*. Conditions between values are left to
//! `check`.

mod access;
mod address;
mod certificate;
mod exchange;
mod module;
mod networks;
mod plain;
mod policy_key;
mod rate;
mod request;
mod route;
mod secret;
mod section;
mod text;

pub(super) use access::{access_choice, log_path};
pub use address::AdminListen;
pub(super) use address::{ip, network_list, server_address, socket, socket_or_unix, sockets, some_networks};
pub(super) use certificate::{
    CertificateKeys, certificates, file_path, load_identity, load_revoked, load_trusted, server_name, trusted_by,
    with_tls,
};
pub(super) use exchange::{bytes, matching};
pub use module::MODULE_CONFIG_LEN_MAX;
pub(super) use module::{free, module_name, policy, policy_name, sha256};
pub(super) use networks::{allow_list, deny_list};
pub(super) use plain::{Size, Time, number_or_text, optional, shared, size, switch, time, time_or_zero, whole, wrong};
pub(super) use policy_key::{policy_key, policy_key_of};
pub(super) use rate::{RATE_MAX, rate};
pub(super) use request::{http_headers, http_host, http_path, http_status};
pub(super) use route::{alpn, group_of_file, route_to, sni};
pub use secret::SECRET_LEN_MAX;
pub(super) use secret::{HIDDEN, password, secret, token_of};
pub(super) use section::{
    Section, elements, key_schema, list, object_schema, object_text, section, section_completed, section_with,
};
pub use text::{LABEL_LEN_MAX, LABELS_MAX};
pub(super) use text::{check_labels, file, folder, labels, name, text, word, words};
