//! Values in a guest's memory, laid out as the canonical ABI wants them: numbers little-endian and aligned to their
//! size, a text or list as address and length, a variant as its case and then what that holds.
//!
//! Whatever is passed in is written to memory that the guest allocates. While its allocator runs it may not call the
//! host, as that would find it in the middle of something.

use wasmtime::{AsContextMut, Instance, Store, StoreContextMut, bail, format_err};

use crate::policy::wasm::bindings::goproxy::balance::types::Server;
use crate::policy::wasm::host::{GuestMemory, HostState};

/// Alignment of whatever holds addresses and numbers.
const ALIGN: u32 = 4;

/// Bytes of a text or list: address and length.
const PAIR_BYTES: usize = 8;

/// Bytes of a `server`, and of one of its labels.
const SERVER_BYTES: usize = 36;
const LABEL_BYTES: usize = 2 * PAIR_BYTES;

/// What a function answers that answers more than a number: `N` words at the address that it gives.
pub(super) fn area<const N: usize>(memory: &[u8], at: u32) -> wasmtime::Result<[u32; N]> {
    if !at.is_multiple_of(ALIGN) {
        bail!("return pointer not aligned");
    }
    let words = memory.get(at as usize..).and_then(|rest| rest.as_chunks().0.first_chunk::<N>());
    let words = words.ok_or_else(|| format_err!("pointer out of bounds of memory"))?;
    Ok(words.map(u32::from_le_bytes))
}

/// Which case of a variant it is; the rest of the word has no meaning.
pub(super) fn case(word: u32) -> u8 {
    word.to_le_bytes()[0]
}

/// A text of the guest's.
pub(super) fn text(memory: &[u8], at: u32, len: u32) -> wasmtime::Result<&str> {
    let bytes = memory.get(at as usize..).and_then(|rest| rest.get(..len as usize));
    let bytes = bytes.ok_or_else(|| format_err!("string pointer/length out of bounds of memory"))?;
    Ok(str::from_utf8(bytes)?)
}

impl GuestMemory {
    pub(super) fn find(store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Self> {
        let memory = instance.get_memory(&mut *store, "memory");
        Ok(Self {
            memory: memory.ok_or_else(|| format_err!("exports no memory"))?,
            realloc: instance.get_typed_func(&mut *store, "cabi_realloc")?,
        })
    }

    /// Passes in a text: where it is, and its length.
    pub(super) fn put_text(
        &self,
        mut store: impl AsContextMut<Data = HostState>,
        text: &str,
    ) -> wasmtime::Result<(u32, u32)> {
        let mut store = store.as_context_mut();
        let at = self.allocate(&mut store, 1, text.len())?;
        self.memory.write(&mut store, at as usize, text.as_bytes())?;
        Ok((at, text.len() as u32))
    }

    /// Passes in a list of numbers.
    pub(super) fn put_numbers(
        &self,
        mut store: impl AsContextMut<Data = HostState>,
        numbers: &[u32],
    ) -> wasmtime::Result<(u32, u32)> {
        let mut store = store.as_context_mut();
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let at = self.allocate(&mut store, ALIGN, bytes.len())?;
        self.memory.write(&mut store, at as usize, &bytes)?;
        Ok((at, numbers.len() as u32))
    }

    /// Passes in a list of servers.
    pub(super) fn put_servers(
        &self,
        mut store: impl AsContextMut<Data = HostState>,
        servers: &[Server<'_>],
    ) -> wasmtime::Result<(u32, u32)> {
        let mut store = store.as_context_mut();
        let list = self.allocate(&mut store, ALIGN, servers.len() * SERVER_BYTES)?;
        for (server, at) in servers.iter().zip((list as usize..).step_by(SERVER_BYTES)) {
            let name = self.put_text(&mut store, server.name)?;
            let address = self.put_text(&mut store, server.address)?;
            let labels = self.put_labels(&mut store, server.labels)?;
            let available = u32::from(server.available);
            let words = [server.id, name.0, name.1, address.0, address.1, server.weight, available, labels.0, labels.1];
            self.put_words(&mut store, at, &words)?;
        }
        Ok((list, servers.len() as u32))
    }

    fn put_labels(
        &self,
        store: &mut StoreContextMut<'_, HostState>,
        labels: &[(&str, &str)],
    ) -> wasmtime::Result<(u32, u32)> {
        let list = self.allocate(store, ALIGN, labels.len() * LABEL_BYTES)?;
        for ((key, value), at) in labels.iter().zip((list as usize..).step_by(LABEL_BYTES)) {
            let (key, value) = (self.put_text(&mut *store, key)?, self.put_text(&mut *store, value)?);
            self.put_words(store, at, &[key.0, key.1, value.0, value.1])?;
        }
        Ok((list, labels.len() as u32))
    }

    /// Writes words to memory that was allocated for them.
    pub(super) fn put_words<const N: usize>(
        &self,
        store: &mut StoreContextMut<'_, HostState>,
        at: usize,
        words: &[u32; N],
    ) -> wasmtime::Result<()> {
        Ok(self.memory.write(store, at, words.map(u32::to_le_bytes).as_flattened())?)
    }

    /// Has the guest allocate.
    fn allocate(&self, store: &mut StoreContextMut<'_, HostState>, align: u32, bytes: usize) -> wasmtime::Result<u32> {
        store.data_mut().may_leave = false;
        let at = self.realloc.call(&mut *store, (0, 0, align, u32::try_from(bytes)?))?;
        store.data_mut().may_leave = true;
        if !at.is_multiple_of(align) {
            bail!("realloc return: result not aligned");
        }
        match self.memory.data(&*store).get(at as usize..) {
            Some(room) if room.len() >= bytes => Ok(at),
            _ => bail!("realloc return: beyond end of memory"),
        }
    }
}
