//! One HTTP request to the venue, over the line that the connection takes: the same proxy, certificate and redirects.

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, DATE, HOST, HeaderName, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::intake::connection::dial::Endpoint;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::redirect::Redirects;
use crate::intake::connection::retry_after::RetryAfter;
use crate::intake::connection::upstream_line::{FeedStream, UpstreamLine};
use crate::intake::time::in_s;
use crate::json::{Pointer, decode_string, find};
use crate::profile::target::FeedUrl;

/// Tokens have a few KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Three times the largest known snapshot, which has 5 MB.
pub(super) const SNAPSHOT_BYTES_MAX: usize = 16 << 20;
/// Of a refusal, for people.
const SAID_CHARS_MAX: usize = 80;

/// A request with everything filled in.
pub(super) struct VenueCall<'c> {
    pub name: &'c str,
    pub method: Method,
    pub endpoint: Endpoint,
    pub body: String,
    /// Where a refusal has its reason.
    pub message: Option<&'c Pointer>,
    /// Of the answer.
    pub bytes_max: usize,
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    retry_after: Option<RetryAfter>,
    text: String,
}

impl UpstreamLine {
    /// The text of the answer. Redirects included, it takes no longer than an attempt to connect may.
    pub(super) async fn call(&self, call: VenueCall<'_>) -> Result<String, Loss> {
        let deadline = Instant::now() + self.route.timeout;
        let mut redirects = Redirects::new(&self.route);
        let mut endpoint = call.endpoint.clone();
        loop {
            let failed = |error: String| failure(call.name, &endpoint.target, error);
            let asking = self.ask(&call, &endpoint, redirects.shows_certificate, deadline);
            let answer = tokio::time::timeout_at(deadline, asking).await;
            let late = |_| failed(format!("no answer within {}", in_s(self.route.timeout)));
            let answer = answer.map_err(late)?.map_err(failed)?;
            if answer.status.is_success() {
                return Ok(answer.text);
            }
            let location = answer.location.as_ref().filter(|_| is_followed(answer.status, &call.method));
            let Some(location) = location.filter(|_| self.route.redirects_max > 0) else {
                return Err(refusal(&call, &endpoint, &answer));
            };
            let next = redirects.next(&endpoint, location);
            endpoint = next.map_err(|loss| failure(call.name, &endpoint.target, loss.to_string()))?;
        }
    }

    async fn ask(
        &self,
        call: &VenueCall<'_>,
        endpoint: &Endpoint,
        shows_certificate: bool,
        deadline: Instant,
    ) -> Result<Answer, String> {
        let target = &endpoint.target;
        let reached = self.reach(target, deadline).await.map_err(|loss| loss.to_string())?;
        let stream = self.secure(target, shows_certificate, reached).await.map_err(|loss| loss.to_string())?;
        let mut request = Request::new(Full::new(Bytes::from(call.body.clone())));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = target.path().parse().map_err(|error| format!("the URL cannot be asked for: {error}"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, target.authority().parse().map_err(|_| "the URL has no host".to_string())?);
        headers.extend(target.authorization().map(|value| (AUTHORIZATION, value)));
        for (name, value) in &endpoint.headers {
            headers.insert(name.clone(), value.clone());
        }
        exchange(stream, request, call.bytes_max).await
    }
}

async fn exchange(stream: FeedStream, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Answer, String> {
    let no_http = |error: hyper::Error| format!("the answer is no HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(no_http)?;
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (status, location) = (response.status(), header(LOCATION).map(str::to_string));
        let retry_after = header(RETRY_AFTER).and_then(|value| RetryAfter::read(value, header(DATE)));
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => format!("expected an answer of at most {bytes_max} bytes, found a larger one"),
            false => format!("the answer is not whole: {error}"),
        })?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is not UTF-8".to_string())?;
        Ok(Answer { status, location, retry_after, text })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

/// Whether the same request is made at the other address (RFC 9110 section 15.4).
fn is_followed(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => status.is_redirection() && *method == Method::GET,
    }
}

/// The loss for a request that has no answer, or none that can be used.
pub(super) fn failure(name: &str, target: &FeedUrl, error: String) -> Loss {
    Loss::Request { name: name.to_string(), url: target.shown_for_http(), error, status: None, retry_after: None }
}

fn refusal(call: &VenueCall<'_>, endpoint: &Endpoint, answer: &Answer) -> Loss {
    let remedy = match answer.status.as_u16() {
        300..=399 => "use the address that it refers to, or set `upstream.redirects_max`",
        401 | 403 => "check its keys and their rights",
        418 | 429 => "too many requests for the feed; wait, and run one instance per address",
        400..=499 => "check its method, URL, headers and body",
        _ => "the feed has a problem; wait",
    };
    let found = reason(call.message, &answer.text).unwrap_or_else(|| shown(&answer.text));
    let said = if found.is_empty() { found } else { format!("; it says `{found}`") };
    Loss::Request {
        name: call.name.to_string(),
        url: endpoint.target.shown_for_http(),
        error: format!("HTTP status {}; {remedy}{said}", answer.status.as_u16()),
        status: Some(answer.status.as_u16()),
        retry_after: answer.retry_after,
    }
}

/// What the venue says about a refusal, where the profile knows its place.
pub(super) fn reason(message: Option<&Pointer>, text: &str) -> Option<String> {
    let token = find(text, message?)?;
    Some(shown(&decode_string(token).unwrap_or(token.into())))
}

fn shown(text: &str) -> String {
    text.chars().take(SAID_CHARS_MAX).flat_map(char::escape_debug).collect()
}
