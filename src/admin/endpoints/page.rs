//! The dashboard: three files of the program, and what they show as text.
//!
//! Nothing in the files is secret, so a browser gets them without a token; what they ask for then needs it. They may
//! not load or run anything that did not come from here, so that no name in them can.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use warp::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

use super::endpoint::Call;
use crate::admin::blocking::blocking;
use crate::admin::params::NoParams;
use crate::admin::reply::{self, Answer, Response};
use crate::frames::Frames;

/// What the page may do in a browser.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const INDEX: &str = include_str!("../dashboard/index.html");
const SCRIPT: &str = include_str!("../dashboard/app.js");
const STYLE: &str = include_str!("../dashboard/style.css");

/// Names this build's files, so that a browser asks again and gets nothing while they are the same.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    [INDEX, SCRIPT, STYLE].hash(&mut hasher);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits are fit for a header")
});

pub(super) async fn index(call: Call, _: NoParams) -> Answer {
    Ok(file(&call.headers, "text/html; charset=utf-8", INDEX))
}

pub(super) async fn script(call: Call, _: NoParams) -> Answer {
    Ok(file(&call.headers, "text/javascript; charset=utf-8", SCRIPT))
}

pub(super) async fn style(call: Call, _: NoParams) -> Answer {
    Ok(file(&call.headers, "text/css; charset=utf-8", STYLE))
}

/// Written on the blocking pool, as the metrics are.
pub(super) async fn text(call: Call, _: NoParams) -> Answer {
    let control = call.control().clone();
    let table = blocking("metrics_failed", "the table", move || Frames::table(&control)).await?;
    Ok(reply::bytes("text/plain; charset=utf-8", table.into_bytes()))
}

fn file(asked: &HeaderMap, content_type: &'static str, body: &'static str) -> Response {
    let known = asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let is_known = TAG.to_str().is_ok_and(|tag| known.contains(tag));
    let mut response = Response::new(if is_known { "".into() } else { body.into() });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ETAG, TAG.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_shows_whatever_it_is_told_as_text() {
        let bytes = [INDEX, SCRIPT, STYLE].map(str::len).iter().sum::<usize>();
        assert!(bytes <= 60 * 1024, "the page has {bytes} bytes; expected at most 60 KiB");
        for hole in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc", "DOMParser"] {
            assert!(!SCRIPT.contains(hole), "app.js has {hole}");
        }
        for inline in ["<script>", "<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!INDEX.contains(inline), "index.html has {inline}");
        }
        for file in [INDEX, SCRIPT, STYLE] {
            let mut urls =
                file.match_indices("//").map(|(at, _)| &file[at.saturating_sub(6)..(at + 24).min(file.len())]);
            let foreign = urls.find(|url| {
                url.contains("https://")
                    || (url.contains("http://") && !url.contains("HOST") && !url.contains("www.w3.org"))
            });
            assert_eq!(foreign, None, "nothing comes from elsewhere");
        }
    }

    #[test]
    fn whoever_has_this_build_s_files_gets_none_again() {
        let mut asked = HeaderMap::new();
        assert_eq!(file(&asked, "text/css", STYLE).status(), StatusCode::OK);
        for (tags, status) in [
            (TAG.to_str().unwrap().to_owned(), StatusCode::NOT_MODIFIED),
            (format!("\"old\", W/{}", TAG.to_str().unwrap()), StatusCode::NOT_MODIFIED),
            ("\"old\"".to_owned(), StatusCode::OK),
        ] {
            asked.insert(IF_NONE_MATCH, tags.parse().unwrap());
            let response = file(&asked, "text/css", STYLE);
            assert_eq!((response.status(), &response.headers()[ETAG]), (status, &*TAG), "{tags}");
        }
    }
}
