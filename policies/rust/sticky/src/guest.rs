//! Ties the policy to `wit/balance.wit`. The proxy calls one function at a time, so a cell is all the locking there is.

use std::cell::RefCell;
use std::net::Ipv4Addr;

use exports::goproxy::balance::policy::{Connection, Description, Guest, Server};
use goproxy::balance::host;
use goproxy::balance::types::IpAddress;

use crate::{Params, Sticky};

wit_bindgen::generate!({ path: "../../../wit", world: "balance-policy" });

thread_local! {
    static STICKY: RefCell<Sticky> = RefCell::new(Sticky::new(Params::default()));
}

struct Policy;

impl Guest for Policy {
    fn describe() -> Description {
        Description { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn configure(_group: String, params: String) -> Result<(), String> {
        STICKY.set(Sticky::new(Params::parse(&params)?));
        Ok(())
    }

    fn set_servers(servers: Vec<Server>) {
        let available = servers.iter().filter(|server| server.available).map(|server| server.id).collect();
        STICKY.with_borrow_mut(|sticky| sticky.set_servers(available));
    }

    fn pick(connection: Connection) -> Option<u32> {
        let client = match connection.client_ip {
            IpAddress::V4(address) => Ipv4Addr::from(address).to_ipv6_mapped().to_bits(),
            IpAddress::V6((high, low)) => u128::from(high) << 64 | u128::from(low),
        };
        let is_tried = |id| connection.attempt > 0 && host::already_tried(id);
        STICKY.with_borrow_mut(|sticky| sticky.pick(client, host::now_nanos(), is_tried))
    }
}

export!(Policy);
