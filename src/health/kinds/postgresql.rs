//! Begins to log in to PostgreSQL. Whoever is asked for a password, or turned away by name, has met a server that serves.

use super::talk::{Failure, Talk, shown};
use crate::group::check::CheckSettings;

/// Who logs in, and where, unless it is said.
const USER: &str = "postgres";
const DATABASE: &str = "postgres";

/// Version 3.0 of the protocol.
const VERSION: i32 = 3 << 16;

/// Messages between the login and the word that all is ready.
const MESSAGES_MAX: usize = 100;

/// Says who we are and looks at what comes of it.
pub(super) async fn hold(talk: &mut Talk<'_>, settings: &CheckSettings) -> Result<&'static [u8], Failure> {
    talk.send(&startup(settings.user.as_deref().unwrap_or(USER))).await?;
    let mut is_let_in = false;
    for _ in 0..MESSAGES_MAX {
        let (kind, len) = message(talk).await?;
        let body = &talk.seen()[5..len];
        match kind {
            // Let in without a password; what goes wrong after that is told at once.
            b'R' if body == [0; 4] => is_let_in = true,
            // To be asked for one is enough, and a goodbye in the middle of that would be logged.
            b'R' => return Ok(b""),
            b'E' => {
                let (code, outcome) = (field(body, b'C').to_vec(), refusal(body));
                talk.set_word(&code);
                return outcome;
            }
            b'Z' if is_let_in => return Ok(b"X\0\0\0\x04"),
            // Settings, the key for cancelling, notices, other versions of the protocol.
            b'S' | b'K' | b'N' | b'v' => {}
            _ => return Err(talk.is_no("PostgreSQL")),
        }
        talk.forget(len);
    }
    Err(talk.is_no("PostgreSQL"))
}

fn startup(user: &str) -> Vec<u8> {
    let mut packet = vec![0; 4];
    packet.extend(VERSION.to_be_bytes());
    for text in ["user", user, "database", DATABASE, "application_name", "goproxy", ""] {
        packet.extend(text.bytes().chain([0]));
    }
    let len = packet.len() as u32;
    packet[..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// Reads one message: what it is, and how long it is with its head of five bytes.
async fn message(talk: &mut Talk<'_>) -> Result<(u8, usize), Failure> {
    loop {
        match talk.seen() {
            [kind, ..] if !b"RESKNZv".contains(kind) => return Err(talk.is_no("PostgreSQL")),
            [kind, a, b, c, d, ..] => {
                let (kind, len) = (*kind, u32::from_be_bytes([*a, *b, *c, *d]));
                let len = usize::try_from(len).ok().filter(|len| (4..super::talk::ANSWER_MAX).contains(len));
                let Some(len) = len else { return Err(talk.is_no("PostgreSQL")) };
                talk.at_least(len + 1).await?;
                return Ok((kind, len + 1));
            }
            _ => talk.some_more().await?,
        }
    }
}

/// A field of an error; empty when it is not there.
fn field(error: &[u8], wanted: u8) -> &[u8] {
    let mut fields = error.split(|b| *b == 0);
    fields.find_map(|field| field.strip_prefix(&[wanted])).unwrap_or_default()
}

/// Judges an error. Class 28 is about who logs in and class 3D about the database: the server is alive and refuses us.
fn refusal(body: &[u8]) -> Result<&'static [u8], Failure> {
    let field = |wanted| field(body, wanted);
    let code = field(b'C');
    if code.starts_with(b"28") || code.starts_with(b"3D") {
        return Ok(b"");
    }
    // The severity in English, where it is said.
    let severity = [field(b'V'), field(b'S')].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    Err(format!("{} {} {}", shown(severity), shown(code), shown(field(b'M'))).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_packet_says_its_length_the_version_and_who_we_are() {
        let packet = startup("me");
        assert_eq!(packet[..8], [0, 0, 0, packet.len() as u8, 0, 3, 0, 0]);
        assert_eq!(&packet[8..], b"user\0me\0database\0postgres\0application_name\0goproxy\0\0");
    }

    #[test]
    fn a_server_that_refuses_us_is_alive_and_one_that_refuses_everybody_is_not() {
        let judged = |text: &str| refusal(text.as_bytes()).map_err(|failure| failure.why);
        assert_eq!(judged("SFATAL\0VFATAL\0C28000\0Mno entry\0\0"), Ok(&b""[..]));
        assert_eq!(judged("SFATAL\0C3D000\0Mno database\0\0"), Ok(&b""[..]));
        assert_eq!(
            judged("SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0").unwrap_err(),
            "FATAL 57P03 the database system is starting up"
        );
        assert_eq!(judged("SFEHLER\0VERROR\0C53300\0Mzu viele\0\0").unwrap_err(), "ERROR 53300 zu viele");
        assert_eq!(judged("").unwrap_err(), "  ");
    }
}
