//! Ties the policy to `wit/balance.wit`. The proxy calls one function at a time, so a cell is all the locking there is.

use std::cell::RefCell;

use exports::goproxy::balance::policy::{Connection, Description, Guest, Server};
use goproxy::balance::host;
use goproxy::balance::types::LogLevel;

use crate::{Params, ZoneFirst};

wit_bindgen::generate!({ path: "../../../wit", world: "balance-policy" });

#[derive(Default)]
struct State {
    zone: String,
    zones: ZoneFirst,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

struct Policy;

impl Guest for Policy {
    fn describe() -> Description {
        Description { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn configure(_group: String, params: String) -> Result<(), String> {
        let params = Params::parse(&params)?;
        STATE.with_borrow_mut(|state| state.zone = params.zone);
        Ok(())
    }

    fn set_servers(servers: Vec<Server>) {
        STATE.with_borrow_mut(|State { zone, zones }| {
            let spilled = zones.spills();
            zones.set_servers(
                servers.iter().filter(|server| server.available).map(|server| {
                    (server.id, server.labels.iter().any(|(name, value)| name == "zone" && value == zone))
                }),
            );
            // Said when it begins: a misspelt zone looks like this too.
            if zones.spills() && !spilled {
                host::log(LogLevel::Warn, &format!("no server of zone {zone} is available, others take its clients"));
            }
        });
    }

    fn pick(connection: Connection) -> Option<u32> {
        let is_tried = |id| connection.attempt > 0 && host::already_tried(id);
        STATE.with_borrow_mut(|state| state.zones.pick(is_tried))
    }
}

export!(Policy);
