//! Who may ask: the checks that every request passes before anything else looks at it.
//!
//! Two kinds of callers are kept out. A web page in the browser of somebody who can reach this port: its
//! requests carry the page's own `Host` (a name that was made to point here, *DNS rebinding*), an `Origin`
//! or a `Sec-Fetch-Site` that a script cannot forge. And whoever lacks the token, where one is configured.
//!
//! A function of the request's head and of the settings, so that settings follow a reload. What is allowed
//! with which method, and what a handler lets which caller do, is not decided here.

use std::net::Ipv6Addr;

use subtle::{Choice, ConstantTimeEq};
use warp::http::header::{AUTHORIZATION, HOST, ORIGIN};
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderName, StatusCode, Version};

use super::reply::{More, Refusal};
use crate::base::text::echo;
use crate::config::{AdminSettings, Secret};

/// Whom an endpoint is for where tokens are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Needs no token.
    Everyone,
    /// Needs the token or the register token, if either is configured.
    Workers,
    /// Needs the token, if one is configured; then the register token will do, with the rights of a worker.
    Both,
    /// Needs the token or the read token.
    Readers,
    /// Needs the token.
    Operators,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything: it has the token, or none is configured for this.
    Operator,
    /// It has only the read token.
    Reader,
    /// It has only the register token: it may speak of servers that registered themselves.
    Worker,
}

/// Checks a request as [`check`] does, at a place where everybody may ask and any name may lead.
///
/// # Errors
///
/// A web page sent it, or it has not one `Host`.
pub(super) fn check_public(head: &Parts) -> Result<Rights, Refusal> {
    check_origin(&head.headers, host(head)?)?;
    Ok(Rights::Reader)
}

/// Checks a request's `Host`, `Origin`, `Sec-Fetch-Site` and `Authorization`, in this order.
///
/// `is_local` is true on a unix socket, which no web page can reach: any `Host` will do there.
///
/// # Errors
///
/// The first check that fails, as the answer for the caller.
pub(super) fn check(
    head: &Parts,
    is_local: bool,
    audience: Audience,
    settings: &AdminSettings,
) -> Result<Rights, Refusal> {
    let host = host(head)?;
    // A page that rebinds a name to this address does not know the token, so with one any name may be ours.
    if !is_local && settings.token.is_none() {
        for name in host.into_iter().chain(head.uri.authority().map(|authority| authority.as_str())) {
            if !is_own_host(name) {
                let msg = format!("Host: \"{}\" is foreign; expected an IP address, localhost, or a token", echo(name));
                return Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_host", msg));
            }
        }
    }
    check_origin(&head.headers, host)?;
    authorize(head, audience, settings)
}

/// The one `Host` of the request; `None` only for HTTP/1.0, where it is optional.
fn host(head: &Parts) -> Result<Option<&str>, Refusal> {
    let expected = "expected one Host header";
    let host =
        single(&head.headers, &HOST).map_err(|wrong| Refusal::bad("bad_host", format!("Host: {wrong}; {expected}")))?;
    if host.is_none() && head.version >= Version::HTTP_11 {
        return Err(Refusal::bad("bad_host", format!("Host: missing; {expected}")));
    }
    Ok(host)
}

/// True for what nobody can make point here by DNS: an IP, or a name that means this machine (RFC 6761).
fn is_own_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, port)) => match inner.parse::<Ipv6Addr>() {
            Ok(_) => ("localhost", port),
            Err(_) => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_ours = name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::Ipv4Addr>().is_ok();
    port_is_fine && is_ours
}

/// A browser says which site a request comes from; programs say nothing.
fn check_origin(headers: &HeaderMap, host: Option<&str>) -> Result<(), Refusal> {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let refuse = |name: &str, value: &str| {
        let msg = format!("{name}: \"{}\" is another site; this port answers no web page but its own", echo(value));
        Err(Refusal::new(StatusCode::FORBIDDEN, "cross_site", msg))
    };
    match single(headers, &ORIGIN) {
        Ok(None) => {}
        Ok(Some(origin)) if is_same_origin(origin, host) => {}
        Ok(Some(origin)) => return refuse("Origin", origin),
        Err(wrong) => return refuse("Origin", wrong),
    }
    match single(headers, &SEC_FETCH_SITE) {
        Ok(None | Some("same-origin" | "none")) => Ok(()),
        Ok(Some(site)) => refuse("Sec-Fetch-Site", site),
        Err(wrong) => refuse("Sec-Fetch-Site", wrong),
    }
}

/// The scheme may be either: a proxy before this port may speak TLS with the browser.
fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    matches!((site, host), (Some(site), Some(host)) if site.eq_ignore_ascii_case(host))
}

/// The token opens everything, the register token what is for workers, the read token what only looks.
///
/// A register token alone guards heartbeats and leaves the rest open, as it is without any token.
fn authorize(head: &Parts, audience: Audience, settings: &AdminSettings) -> Result<Rights, Refusal> {
    let is_for_workers = matches!(audience, Audience::Workers | Audience::Both);
    let is_guarded = settings.token.is_some() || (audience == Audience::Workers && settings.register_token.is_some());
    if audience == Audience::Everyone || !is_guarded {
        return Ok(Rights::Operator);
    }

    let sent = bearer(&head.headers);
    let is = |secret: &Option<Secret>| match (sent, secret) {
        (Some(sent), Some(secret)) => sent.as_bytes().ct_eq(secret.expose().as_bytes()),
        _ => Choice::from(0),
    };
    let (is_admin, is_worker) = (is(&settings.token), is(&settings.register_token));
    let is_reader = is(&settings.read_token);
    if bool::from(is_admin) {
        return Ok(Rights::Operator);
    }
    let not_enough = |which: &str| {
        let msg = format!("Authorization: the {which} token is not enough here; expected the admin token");
        Err(Refusal::new(StatusCode::FORBIDDEN, "token_not_enough", msg))
    };
    if bool::from(is_worker) {
        return if is_for_workers { Ok(Rights::Worker) } else { not_enough("register") };
    }
    if bool::from(is_reader) {
        return if audience == Audience::Readers { Ok(Rights::Reader) } else { not_enough("read") };
    }
    let wrong = if sent.is_some() { "wrong token" } else { "no token" };
    let msg = format!("Authorization: {wrong}; expected \"Bearer …\" with the configured token");
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", msg).with(More::Authenticate))
}

/// The token of the one `Authorization: Bearer …`, if there is such a header and it is not empty.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, &AUTHORIZATION).ok()??.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The value of a header that may be there once; says what is wrong otherwise.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("given more than once");
    }
    value.to_str().map(Some).map_err(|_| "not ASCII")
}

#[cfg(test)]
mod tests;
