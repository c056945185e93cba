//! Answers of megabytes, packed for those who can unpack them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use warp::http::HeaderMap;
use warp::http::header::ACCEPT_ENCODING;

/// True when whoever asks can unpack gzip, by the rules of RFC 9110, section 12.5.3.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any) = (None, None);
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for coding in lists.flat_map(|list| list.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_wanted = quality.is_none_or(|quality| quality.parse::<f64>().is_ok_and(|quality| quality > 0.0));
        match name {
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => gzip = Some(is_wanted),
            "*" => any = Some(is_wanted),
            _ => {}
        }
    }
    gzip.or(any).unwrap_or(false)
}

/// The bytes as a gzip file, made fast rather than small: metrics shrink to a thirtieth all the same.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::with_capacity(bytes.len() / 16), Compression::fast());
    packed.write_all(bytes).and_then(|()| packed.finish()).expect("a Vec takes whatever is written")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for (lists, is_wanted) in [
            (&[][..], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZIP"], true),
            (&["deflate, gzip;q=0.5"], true),
            (&["deflate", "x-gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["*"], true),
            (&["identity, *;q=0"], false),
            (&["gzip;q=x"], false),
            (&["identity", "br;q=1, zstd"], false),
        ] {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(ACCEPT_ENCODING, list.parse().unwrap());
            }
            assert_eq!(is_accepted(&headers), is_wanted, "{lists:?}");
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_again_and_small() {
        let text: String =
            (0..10_000).map(|number| format!("goproxy_server_up{{server=\"10.0.0.{number}\"}} 1\n")).collect();
        let packed = pack(text.as_bytes());
        let mut unpacked = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
        assert!(packed.len() < text.len() / 8, "{} of {}", packed.len(), text.len());
        assert_eq!(unpacked, text);
    }
}
