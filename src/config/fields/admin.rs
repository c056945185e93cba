//! The keys of `admin`.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::base::secret::Secret;
use crate::config::declare::settings;
use crate::config::kinds::{AdminListen, HIDDEN, network_list, optional, secret, socket, socket_or_unix, switch};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::{Listens, Reader};

settings! {
    /// The admin port as configured.
    pub struct AdminSettings {
        /// Where the admin port listens, ip:port or unix:PATH. An address that other machines can reach needs a token.
        listen: AdminListen as socket_or_unix() => AdminListen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))), NextStart;
        /// The bearer token that every request needs but /live and /ready: the token itself, env:NAME or file:PATH
        /// (relative to the folder of this file).
        token: Option<Secret> as optional(secret()), AtOnce;
        /// A second token, which allows worker-keepalive.do, and worker-remove.do for a server that registered itself; written as token is.
        register_token: Option<Secret> as optional(secret()), AtOnce;
        /// A third token, which allows everything that only looks, /metrics and /events included, and nothing that changes;
        /// written as token is.
        read_token: Option<Secret> as optional(secret()), AtOnce;
        /// Networks whose addresses may register as servers; null for all that are not refused anyway.
        register_allow: Option<Vec<IpNet>> as optional(network_list()), AtOnce;
        /// False: a request that changes something needs POST.
        allow_get_changes: bool as switch() => true, AtOnce;
        /// Serves /debug/pprof/ at this ip:port instead of on the admin port.
        pprof_listen: Option<SocketAddr> as optional(socket()), NextStart;
        /// Serves /metrics, /live and /ready at this ip:port as well. On a loopback address no token is needed there.
        metrics_listen: Option<SocketAddr> as optional(socket()), NextStart;
        /// True: nobody needs a token at metrics_listen, whatever its address is.
        metrics_public: bool as switch() => false, AtOnce;
    }
}

/// Reports what does not fit together within `admin`, and notes where the process would listen.
pub(super) fn check_admin(reader: &mut Reader, object: &Object, admin: &AdminSettings) {
    check_tokens(reader, object, admin);
    let listen = match admin.listen {
        AdminListen::Tcp(addr) => Some(("listen", addr)),
        AdminListen::Unix(_) => None,
    };
    let pprof = admin.pprof_listen.map(|addr| ("pprof_listen", addr));
    let metrics = admin.metrics_listen.map(|addr| ("metrics_listen", addr));
    for (name, addr) in listen.into_iter().chain(pprof).chain(metrics) {
        let place = Place::Key(object.place, name);
        let is_public = name == "metrics_listen" && admin.metrics_public;
        if !addr.ip().to_canonical().is_loopback() && !object.says("token") && !is_public {
            let public = if name == "metrics_listen" { ", \"metrics_public\": true" } else { "" };
            let message = format!(
                "\"{addr}\" can be reached from other machines; expected a loopback address{public} or admin.token"
            );
            reader.problems.add(object.offset(name), place, message);
        }
        let (offset, path) = (object.offset(name), place.to_string());
        reader.listeners.push(Listens { addr, offset, path, group: None });
    }
}

fn check_tokens(reader: &mut Reader, object: &Object, admin: &AdminSettings) {
    let others = [("register_token", &admin.register_token), ("read_token", &admin.read_token)];
    // A dump hides all of them alike.
    let is_same = |one: &Option<Secret>, other: &Option<Secret>| {
        let secrets = one.as_ref().zip(other.as_ref());
        secrets.is_some_and(|(one, other)| one.expose() == other.expose() && one.expose() != HIDDEN)
    };
    for (name, secret) in others {
        let message = if object.says(name) && !object.says("token") {
            format!("a {name} without a token protects nothing; expected admin.token too")
        } else if is_same(&admin.token, secret) {
            format!("the {name} is the token, which allows everything; expected another one")
        } else if name == "read_token" && is_same(&admin.register_token, secret) {
            "the read_token is the register_token; expected another one".to_owned()
        } else {
            continue;
        };
        reader.problems.add(object.offset(name), Place::Key(object.place, name), message);
    }
}

#[cfg(test)]
impl AdminSettings {
    /// What an empty file means.
    pub(crate) fn for_tests() -> Self {
        let mut reader = Reader::new(std::path::PathBuf::new(), &|_| None);
        let missing = Object::missing(&Place::Root, false);
        crate::config::declare::Fields::read(&mut reader, &missing, None).expect("no key is required")
    }
}
