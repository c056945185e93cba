//! Ties the policy to `wit/balance.wit`. The proxy calls one function at a time, so a cell is all the locking there is.

use std::cell::RefCell;

use exports::goproxy::balance::{feedback, policy};
use goproxy::balance::host;
use policy::{Connection, Description, Server};

use crate::LeastLatency;

// The second world: it exports `feedback` too, and so the proxy calls it.
wit_bindgen::generate!({ path: "../../../wit", world: "balance-policy-with-feedback" });

thread_local! {
    static SERVERS: RefCell<LeastLatency> = RefCell::default();
}

struct Policy;

impl policy::Guest for Policy {
    fn describe() -> Description {
        Description { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn configure(_group: String, _params: String) -> Result<(), String> {
        Ok(())
    }

    fn set_servers(servers: Vec<Server>) {
        let servers = servers.iter().map(|server| (server.id, server.available));
        SERVERS.with_borrow_mut(|known| known.set_servers(servers, host::connect_latency));
    }

    fn pick(connection: Connection) -> Option<u32> {
        let is_tried = |id| connection.attempt > 0 && host::already_tried(id);
        SERVERS.with_borrow_mut(|servers| servers.pick(&host::all_active_connections(), is_tried))
    }
}

impl feedback::Guest for Policy {
    fn on_connected(server: u32, micros: u32) {
        SERVERS.with_borrow_mut(|servers| servers.connected(server, micros));
    }

    fn on_failed(server: u32) {
        SERVERS.with_borrow_mut(|servers| servers.failed(server));
    }

    fn on_closed(_server: u32, _millis: u64, _bytes: u64) {}
}

export!(Policy);
