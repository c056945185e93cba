//! Logs in to MySQL or MariaDB: a machine that connects a hundred times and never logs in is locked out.

use super::talk::{ANSWER_MAX, Failure, Talk, shown};
use crate::group::check::{CheckCode, CheckSettings};

/// What we can do: long passwords, version 4.1 of the protocol, its way of logging in, and naming another one.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;
const PACKET_MAX: u32 = 1 << 24;
/// utf8.
const CHARSET: u8 = 33;
/// The way of logging in that an empty password needs.
const PLUGIN: &str = "mysql_native_password";

/// Number and command of the packet that says goodbye.
const GOODBYE: &[u8] = b"\x01\0\0\0\x01";

/// Packets that answer a login before it is done: the server may ask for another way once, and say how it goes on.
const ROUNDS_MAX: usize = 4;

/// The first byte of a packet.
const OK: u8 = 0;
const MORE: u8 = 1;
const GREETING: u8 = 10;
const SWITCH: u8 = 0xfe;
const ERROR: u8 = 0xff;

/// Says of a login that it goes on without a password, as the second byte of [`MORE`].
const IS_KNOWN: u8 = 3;

/// Logs in.
pub(super) async fn hold(talk: &mut Talk<'_>, settings: &CheckSettings) -> Result<&'static [u8], Failure> {
    let user = settings.user.as_deref().unwrap_or_default();
    let greeting = packet(talk).await?;
    match greeting.body {
        [GREETING, ..] if greeting.number == 0 => {}
        [ERROR, error @ ..] => {
            let (code, why) = (code(error), refusal(error, user));
            return Err(refused(talk, code, why));
        }
        _ => return Err(talk.is_no("MySQL")),
    }
    talk.forget_all();
    talk.send(&numbered(1, &login(user))).await?;
    for _ in 0..ROUNDS_MAX {
        let answer = packet(talk).await?;
        let (number, len) = (answer.number, answer.body.len() + 4);
        match answer.body {
            [OK, ..] => return Ok(GOODBYE),
            [ERROR, error @ ..] => {
                let (code, why) = (code(error), refusal(error, user));
                return Err(refused(talk, code, why));
            }
            [MORE, IS_KNOWN, ..] => talk.forget(len),
            // Whatever the other way is, no password is an empty packet.
            [SWITCH, _, ..] => {
                talk.forget(len);
                talk.send(&numbered(number.wrapping_add(1), b"")).await?;
            }
            [MORE, ..] | [SWITCH] => {
                let user = shown(user.as_bytes());
                return Err(format!("user \"{user}\" is asked for a password; expected a user without one").into());
            }
            _ => return Err(talk.is_no("MySQL")),
        }
    }
    Err(talk.is_no("MySQL"))
}

/// A packet of the server.
struct Packet<'t> {
    number: u8,
    body: &'t [u8],
}

/// Reads a packet; it stays what has been seen.
async fn packet<'t>(talk: &'t mut Talk<'_>) -> Result<Packet<'t>, Failure> {
    talk.at_least(5).await?;
    let [a, b, c, number, ..] = *talk.seen() else { return Err(talk.closed()) };
    let len = u32::from_le_bytes([a, b, c, 0]) as usize;
    if !(1..=ANSWER_MAX - 4).contains(&len) {
        return Err(talk.is_no("MySQL"));
    }
    talk.at_least(len + 4).await?;
    Ok(Packet { number, body: &talk.seen()[4..len + 4] })
}

fn numbered(number: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    [&[a, b, c, number], body].concat()
}

/// The login of a user without a password.
fn login(user: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(CAPABILITIES.to_le_bytes());
    body.extend(PACKET_MAX.to_le_bytes());
    body.push(CHARSET);
    body.extend([0; 23]);
    body.extend(user.bytes().chain([0]));
    // The length of what proves the password.
    body.push(0);
    body.extend(PLUGIN.bytes().chain([0]));
    body
}

/// The code of an error.
fn code(error: &[u8]) -> Option<u16> {
    error.first_chunk().map(|code| u16::from_le_bytes(*code))
}

fn refused(talk: &mut Talk<'_>, code: Option<u16>, why: Failure) -> Failure {
    if let Some(code) = code {
        talk.set_code(CheckCode::Number(code));
    }
    why
}

/// An error: its code, sometimes a state of SQL, and a message.
fn refusal(error: &[u8], user: &str) -> Failure {
    let [low, high, message @ ..] = error else { return format!("ERR \"{}\"", shown(error)).into() };
    let message = match message {
        [b'#', _, _, _, _, _, message @ ..] => message,
        message => message,
    };
    match u16::from_le_bytes([*low, *high]) {
        code @ (1045 | 1698) => {
            let user = shown(user.as_bytes());
            format!("ERR {code} access denied: create the user \"{user}\" without a password and rights").into()
        }
        code @ 1129 => format!("ERR {code} {}; unblock it there with FLUSH HOSTS", shown(message)).into(),
        code => format!("ERR {code} {}", shown(message)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_code_and_what_to_do() {
        let told = |error: &[u8]| refusal(error, "me").why;
        assert_eq!(told(b"\x10\x04Too many connections"), "ERR 1040 Too many connections");
        assert_eq!(told(b"\x10\x04#08004Too many connections"), "ERR 1040 Too many connections");
        assert_eq!(
            told(b"\x15\x04#28000Access denied for user"),
            "ERR 1045 access denied: create the user \"me\" without a password and rights"
        );
        assert_eq!(
            told(b"\x69\x04Host 'a' is blocked"),
            "ERR 1129 Host 'a' is blocked; unblock it there with FLUSH HOSTS"
        );
        assert_eq!(told(b"\x69"), "ERR \"i\"");
    }

    #[test]
    fn a_login_names_the_user_and_has_no_password() {
        let packet = numbered(1, &login("me"));
        assert_eq!(packet[..4], [(packet.len() - 4) as u8, 0, 0, 1]);
        assert!(packet.ends_with(b"\0\0\0me\0\0mysql_native_password\0"));
    }
}
