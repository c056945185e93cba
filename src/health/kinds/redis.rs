//! Asks a server of Redis whether it serves, and for its role where that matters.

use super::talk::{Failure, Talk, shown};
use crate::group::check::{CheckRole, CheckSettings};

/// Logs in where there is a password, asks, and says goodbye.
pub(super) async fn hold(talk: &mut Talk<'_>, settings: &CheckSettings) -> Result<&'static [u8], Failure> {
    let has_password = settings.password.is_some();
    if let Some(password) = &settings.password {
        let user = settings.user.as_deref();
        let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.expose()]).collect();
        ask(talk, &words).await?;
        if line(talk).await? != b"+OK" {
            note_code(talk);
            return Err(answered(talk));
        }
    }
    // This is what tells that it is loading: INFO is answered all the same.
    ask(talk, &["PING"]).await?;
    let pong = line(talk).await?;
    let serves_others = !has_password && [&b"-NOAUTH"[..], b"-NOPERM"].iter().any(|code| pong.starts_with(code));
    let is_good = pong == b"+PONG" || serves_others;
    note_code(talk);
    if !is_good {
        return Err(unlike_pong(talk));
    }
    if settings.role != CheckRole::Any {
        ask(talk, &["INFO", "replication"]).await?;
        check_role(&bulk(talk).await?, settings.role)?;
    }
    Ok(b"QUIT\r\n")
}

/// The first word of an error is its code.
fn note_code(talk: &mut Talk<'_>) {
    if let Some(error) = talk.seen().strip_prefix(b"-") {
        let word = error.split(u8::is_ascii_whitespace).next().unwrap_or_default().to_vec();
        talk.set_word(&word);
    }
}

/// Sends one command, as a list of words.
async fn ask(talk: &mut Talk<'_>, words: &[&str]) -> Result<(), Failure> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    talk.forget_all();
    talk.send(command.as_bytes()).await
}

/// The first line of the answer, without its end.
async fn line<'t>(talk: &'t mut Talk<'_>) -> Result<&'t [u8], Failure> {
    let mut looked_at = 0;
    loop {
        if talk.seen().first().is_some_and(|first| !b"+-:$*".contains(first)) {
            return Err(talk.is_no("Redis"));
        }
        let is_end = |pair: &[u8]| pair == b"\r\n";
        if let Some(at) = talk.seen()[looked_at..].windows(2).position(is_end) {
            return Ok(&talk.seen()[..looked_at + at]);
        }
        looked_at = talk.seen().len().saturating_sub(1);
        talk.some_more().await?;
    }
}

/// A text that is sent with its length.
async fn bulk(talk: &mut Talk<'_>) -> Result<Vec<u8>, Failure> {
    let head = line(talk).await?;
    let start = head.len() + 2;
    let len = std::str::from_utf8(head).ok().and_then(|head| head.strip_prefix('$')?.parse::<usize>().ok());
    let Some(end) = len.and_then(|len| start.checked_add(len)) else { return Err(answered(talk)) };
    talk.at_least(end).await?;
    Ok(talk.seen()[start..end].to_vec())
}

fn check_role(replication: &[u8], wanted: CheckRole) -> Result<(), Failure> {
    let mut lines = replication.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let Some(role) = lines.find_map(|line| line.strip_prefix(b"role:")) else {
        return Err(format!("no role in \"{}\"", shown(replication)).into());
    };
    let is_wanted = match wanted {
        CheckRole::Any => true,
        CheckRole::Master => role == b"master",
        CheckRole::Replica => role == b"slave" || role == b"replica",
    };
    let failure = || format!("role is {}, wanted {}", shown(role), wanted.as_str()).into();
    if is_wanted { Ok(()) } else { Err(failure()) }
}

/// What it says is the reason.
fn answered(talk: &Talk<'_>) -> Failure {
    format!("answered \"{}\"", talk.shown()).into()
}

fn unlike_pong(talk: &Talk<'_>) -> Failure {
    match talk.seen().first() {
        Some(b'-') => answered(talk),
        _ => format!("expected \"+PONG\", answered \"{}\"", talk.shown()).into(),
    }
}
