//! What the headers of a request say about the answer that it takes: one it has not yet, in an encoding it can read.

use axum::http::{HeaderMap, header};

/// `If-None-Match` (RFC 9110 section 13.1.2), compared weakly: a proxy that recompresses marks ETags with `W/`.
pub(in crate::edge) fn knows(request: &HeaderMap, etag: &str) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    })
}

/// `Accept-Encoding` (RFC 9110 section 12.5.3); `gzip` by name decides, else `*`.
pub(in crate::edge) fn accepts_gzip(request: &HeaderMap) -> bool {
    let lines = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut any = false;
    for element in lines.flat_map(|line| line.split(',')) {
        let (coding, weight) = element.split_once(';').unwrap_or((element, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        let wanted = weight.is_ok_and(|weight| weight > 0.0);
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return wanted,
            "*" => any = wanted,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for (accepted, expected) in [
            ("", false),
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*", true),
            ("*;q=0", false),
            ("br, deflate", false),
            ("gzip;q=much", false),
        ] {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
            assert_eq!(accepts_gzip(&headers), expected, "{accepted}");
        }
    }

    #[test]
    fn an_etag_is_known_by_name_among_others_or_by_a_star() {
        for (known, expected) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            let headers = [(header::IF_NONE_MATCH, HeaderValue::from_static(known))].into_iter().collect();
            assert_eq!(knows(&headers, "\"a\""), expected, "{known}");
        }
    }
}
