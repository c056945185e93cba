//! Sends bytes and looks at the answer, step by step.

use super::talk::{Came, Failure, Talk, shown};
use crate::group::check::{CheckSettings, Match, Pattern};

/// Takes all steps.
pub(super) async fn hold(talk: &mut Talk<'_>, settings: &CheckSettings) -> Result<&'static [u8], Failure> {
    for (send, expect) in settings.exchange() {
        if let Some(bytes) = send {
            talk.forget_all();
            talk.send(bytes).await?;
        }
        if let Some(wanted) = expect {
            expect_answer(talk, wanted).await?;
        }
    }
    Ok(b"")
}

/// Reads on until it is known whether the answer is as wanted.
async fn expect_answer(talk: &mut Talk<'_>, wanted: &Match) -> Result<(), Failure> {
    while wanted.judge(talk.seen(), false).is_none() {
        match talk.more().await {
            Ok(Came::Something) => {}
            Ok(Came::End) if is_cut(talk.seen(), wanted) => return Err(talk.closed()),
            Ok(Came::End | Came::Full) => break,
            // The server keeps the connection open, so nothing more comes.
            Err(late) if late.is_late && wanted.is_not => break,
            Err(late) if late.is_late && !talk.seen().is_empty() => {
                return Err(Failure { is_late: true, ..unlike(talk, wanted) });
            }
            Err(failure) => return Err(failure),
        }
    }
    if wanted.judge(talk.seen(), true) == Some(true) { Ok(()) } else { Err(unlike(talk, wanted)) }
}

/// True when an answer that is over might have become what was wanted.
fn is_cut(seen: &[u8], wanted: &Match) -> bool {
    !wanted.is_not && (seen.is_empty() || matches!(&wanted.pattern, Pattern::Prefix(_)))
}

fn unlike(talk: &Talk<'_>, wanted: &Match) -> Failure {
    format!("expected {wanted}, answered \"{}\"", shown(talk.seen())).into()
}
