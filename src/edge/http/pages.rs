//! `/` and `/static/…`: the page and its files, with ETags and cache headers fit for a CDN.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::edge::http::answer::not_found;
use crate::edge::http::assets::{Asset, Assets, Freshness};
use crate::edge::http::conditional::{accepts_gzip, knows};
use crate::edge::http::context::AnswerContext;

/// Scripts only from here; WebSockets to anywhere, because the page can be pointed at another server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A script may be a worker, which has the policy of its own answer: it connects as the page does.
const SCRIPT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'",
);

pub(in crate::edge) async fn index(
    State(context): State<Arc<AnswerContext>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(asset) = context.assets.index() else {
        return not_found(&uri).into_response();
    };
    let mut response = send(asset, &headers, "no-cache");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

pub(in crate::edge) async fn file(State(context): State<Arc<AnswerContext>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix("/static/").unwrap_or_default();
    send_file(&context.assets, path, &headers).unwrap_or_else(|| not_found(&uri).into_response())
}

fn send_file(assets: &Assets, path: &str, request: &HeaderMap) -> Option<Response> {
    let (asset, freshness) = assets.find(path)?;
    let cache = match freshness {
        Freshness::Immutable => "public, max-age=31536000, immutable",
        Freshness::Current => "public, max-age=300, stale-while-revalidate=86400",
        // Short: until the rollout is complete it may be the wrong content for this version.
        Freshness::OtherVersion => "public, max-age=60",
    };
    let mut response = send(asset, request, cache);
    if asset.content_type.starts_with("text/javascript") {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, SCRIPT_POLICY);
    }
    Some(response)
}

fn send(asset: &Asset, request: &HeaderMap, cache: &'static str) -> Response {
    let representation = match &asset.gzip {
        Some(gzip) if accepts_gzip(request) => gzip,
        _ => &asset.plain,
    };
    let unchanged = knows(request, &representation.etag);
    let mut response = Response::new(if unchanged { Body::empty() } else { representation.body.clone().into() });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    let etag = HeaderValue::try_from(&representation.etag).expect("hexadecimal digits in quotes");
    headers.insert(header::ETAG, etag);
    if asset.gzip.is_some() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if !std::ptr::eq(representation, &asset.plain) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn assets() -> Assets {
        let files = [("app.js", "let a = 1;\n".repeat(200)), ("index.html", "/static/@version@/app.js".to_string())];
        Assets::new(files.map(|(path, text)| (path.to_string(), text.into_bytes())).into())
    }

    fn header(response: &Response, name: HeaderName) -> Option<&str> {
        response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn a_file_may_be_cached_for_as_long_as_its_path_stays_true() {
        let assets = assets();
        let page = assets.index().expect("there is a page");
        let path = String::from_utf8_lossy(&page.plain.body).into_owned();
        for (path, expected) in [
            (path.trim_start_matches("static/"), "public, max-age=31536000, immutable"),
            ("app.js", "public, max-age=300, stale-while-revalidate=86400"),
            ("0000000000000000/app.js", "public, max-age=60"),
        ] {
            let response = send_file(&assets, path, &HeaderMap::new()).expect(path);
            assert_eq!(header(&response, header::CACHE_CONTROL), Some(expected), "{path}");
            assert_eq!(header(&response, header::CONTENT_TYPE), Some("text/javascript; charset=utf-8"));
        }
        assert!(send_file(&assets, "none.js", &HeaderMap::new()).is_none());
    }

    #[test]
    fn caches_distinguish_encodings_and_revalidate_each_by_its_etag() {
        let assets = assets();
        let plain = send_file(&assets, "app.js", &HeaderMap::new()).expect("a file");
        let gzip_accepted = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let gzip = send_file(&assets, "app.js", &gzip_accepted).expect("a file");
        assert_eq!(header(&plain, header::CONTENT_ENCODING), None);
        assert_eq!(header(&gzip, header::CONTENT_ENCODING), Some("gzip"));
        for response in [&plain, &gzip] {
            assert_eq!(header(response, header::VARY), Some("accept-encoding"));
        }
        let known = gzip.headers()[header::ETAG].clone();
        assert_ne!(known, plain.headers()[header::ETAG]);
        for (accepted, expected) in [("gzip", StatusCode::NOT_MODIFIED), ("identity", StatusCode::OK)] {
            let headers = HeaderMap::from_iter([
                (header::ACCEPT_ENCODING, HeaderValue::from_static(accepted)),
                (header::IF_NONE_MATCH, known.clone()),
            ]);
            assert_eq!(send_file(&assets, "app.js", &headers).map(|r| r.status()), Some(expected), "{accepted}");
        }
    }
}
