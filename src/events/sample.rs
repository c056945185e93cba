//! One event of each kind, made of any text and number: for tests that hold for all of them.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::*;
use crate::base::label::GroupLabel;

/// What the fields of a sample are made of.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) text: String,
    pub(crate) number: u64,
    pub(crate) addr: SocketAddr,
    /// Fields that may be missing are there.
    pub(crate) is_full: bool,
}

/// A type of fields.
pub(super) trait Sample {
    fn sample(seed: &Seed) -> Self;
}

macro_rules! samples {
    ($( $type:ty: $seed:ident => $value:expr; )+) => {
        $( impl Sample for $type {
            fn sample($seed: &Seed) -> Self {
                $value
            }
        } )+
    };
}

samples! {
    u16: seed => seed.number as u16;
    u32: seed => seed.number as u32;
    NonZeroU64: seed => NonZeroU64::MIN.saturating_add(seed.number);
    u64: seed => seed.number;
    usize: seed => seed.number as usize;
    f64: seed => (seed.number >> 20) as f64 / 1_000.0;
    bool: seed => seed.is_full;
    Duration: seed => Duration::from_millis(seed.number);
    &'static str: _seed => "word";
    Box<str>: seed => seed.text.as_str().into();
    Arc<str>: seed => seed.text.as_str().into();
    Box<[Box<str>]>: seed => vec![seed.text.as_str().into(); seed.number as usize % 4].into();
    SocketAddr: seed => seed.addr;
    Level: _seed => Level::INFO;
    GroupLabel: seed => GroupLabel::new(seed.number as u16, seed.is_full.then_some(&*seed.text));
}

impl<T: Sample> Sample for Option<T> {
    fn sample(seed: &Seed) -> Self {
        seed.is_full.then(|| T::sample(seed))
    }
}

/// One event of each kind, but for those of sessions.
pub(crate) fn samples(seed: &Seed) -> Vec<Event> {
    let group = || GroupLabel::sample(seed);
    let servers = ServerChange::samples(seed);
    let servers =
        servers.into_iter().map(|change| Event::Server { group: group(), addr: Sample::sample(seed), change });
    let groups = GroupChange::samples(seed).into_iter().map(|change| Event::Group { group: group(), change });
    servers
        .chain(groups)
        .chain(ConfigEvent::samples(seed).into_iter().map(Event::Config))
        .chain(PolicyEvent::samples(seed).into_iter().map(Event::Policy))
        .chain(LimitEvent::samples(seed).into_iter().map(Event::Limits))
        .chain(AdminEvent::samples(seed).into_iter().map(Event::Admin))
        .chain(ProcessEvent::samples(seed).into_iter().map(Event::Process))
        .chain([Event::Lost(seed.number)])
        .collect()
}
