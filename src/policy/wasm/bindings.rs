//! The interface of `wit/balance.wit` as Rust sees it; written by a macro from that file.

#![allow(missing_docs, unreachable_pub, reason = "what the macro writes is documented in the interface's file")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "balance-policy",
    ownership: Borrowing { duplicate_if_necessary: false },
});
