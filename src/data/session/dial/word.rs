//! Word for our own listener, where a connection leads there.

use std::sync::Arc;

use super::Context;
use crate::data::session::connect::Step;
use crate::data::session::passage::{Passage, PassageGuard};

/// Leaves word for our own listener, to which this connection leads, of the groups that it has come through.
pub(super) fn leave_word(
    step: &Step,
    before: Option<&Arc<Passage>>,
    context: Context<'_>,
) -> Option<Box<PassageGuard>> {
    let (Step::Connected(server, _) | Step::Connecting(server, _)) = step else { return None };
    let passage = Passage::new(context.record.group(), before.map(Arc::clone));
    Some(Box::new(context.passages.insert(server.own_addr()?, passage)))
}
