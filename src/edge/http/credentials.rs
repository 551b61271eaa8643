//! The credential of a request: found where the operator lets clients show one. What it says is not looked at here.
//!
//! Of several the one that a program chose counts, not the one that a browser sends by itself. A cookie counts only for
//! pages of the same host or of a list (`origins.rs`), so that no other page acts in its user's name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::access::gatekeeper::{Admitted, AuthRefusal, AuthRequest, Credential};
use crate::access::grant::Grant;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::edge::http::answer::{HttpRefusal, json_of};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::origins::{RequestTarget, host, origin};
use crate::edge::listen::forwarded::WebScheme;
use crate::edge::listen::peer::WebClient;
use crate::edge::settings::CredentialSources;
use crate::words::goodbye::Goodbye;

/// Offered as a subprotocol, with the token in base64url behind it. It is never chosen.
const BEARER_PROTOCOL: &str = "fanline.bearer.";
/// The gatekeeper answers always, and within seconds even where keys have to be fetched.
const VERDICT_MAX: Duration = Duration::from_secs(15);
/// Of a ticket, as docs/PROTOCOL.md promises.
const TICKET_LIFE: Duration = Duration::from_secs(30);

impl CredentialSources {
    /// The credential that the headers show, or the ticket of the query. `is_own_page`: the page may use cookies.
    fn find(&self, headers: &HeaderMap, ticket: Option<Box<str>>, is_own_page: bool) -> Option<Credential> {
        let by_header = self.header.then(|| bearer(headers)).flatten();
        let by_protocol = || self.subprotocol.then(|| subprotocol(headers)).flatten();
        let by_ticket = || ticket.filter(|_| self.ticket).map(Credential::Ticket);
        let by_cookie = || cookie(headers, self.cookie.as_deref().filter(|_| is_own_page)?);
        by_header
            .or_else(by_protocol)
            .map(Credential::Token)
            .or_else(by_ticket)
            .or_else(|| by_cookie().map(Credential::Token))
    }
}

/// The token in `Authorization: Bearer`; none if there are several such headers.
fn bearer(headers: &HeaderMap) -> Option<Box<str>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// The token in an offered subprotocol. What cannot be read is a token that will be refused: a page is told why by the
/// session alone.
fn subprotocol(headers: &HeaderMap) -> Option<Box<str>> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    let encoded =
        lines.flat_map(|line| line.split(',')).find_map(|token| token.trim().strip_prefix(BEARER_PROTOCOL))?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(decoded.unwrap_or_default().into())
}

/// The value of the cookie with exactly this name; none if it is there twice.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Box<str>> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    let (Some(value), None) = (found.next(), found.next()) else { return None };
    Some(value.into())
}

impl AnswerContext {
    /// The credential of the request, and the page that shows it.
    pub(in crate::edge) fn find_credential<B>(
        &self,
        request: &Request<B>,
        ticket: Option<Box<str>>,
    ) -> (Option<Credential>, Option<Box<str>>) {
        let origin = origin(request.headers());
        if !self.gatekeeper.takes_credentials() {
            return (None, None);
        }
        let scheme = request.extensions().get::<WebClient>().map_or(WebScheme::Http, |client| client.scheme);
        let target = RequestTarget { scheme, host: host(request) };
        let terms = self.terms.requests();
        let is_own_page = terms.visitors.allows_credentials(origin.as_deref(), target);
        let credential = terms.credentials.find(request.headers(), ticket, is_own_page);
        (credential, origin.map(String::into_boxed_str))
    }

    /// What the client of a single request may see.
    pub(in crate::edge) async fn grant_of(
        &self,
        credential: Option<Credential>,
        (address, origin): (Option<IpAddr>, Option<Box<str>>),
    ) -> Result<Grant, HttpRefusal> {
        let Some(credential) = credential else {
            return self.gatekeeper.anonymous().ok_or_else(|| unauthenticated("Bearer"));
        };
        let (reply, verdict) = oneshot::channel();
        let request = AuthRequest { credential, address, origin, current: None, session: None };
        // The request may be gone by then.
        self.gatekeeper.authenticate(request, Box::new(move |outcome| drop(reply.send(outcome))));
        let Admitted { grant, .. } = self.await_verdict(verdict, address).await?;
        Ok(grant)
    }

    async fn await_verdict<T>(
        &self,
        verdict: oneshot::Receiver<Result<T, AuthRefusal>>,
        address: Option<IpAddr>,
    ) -> Result<T, HttpRefusal> {
        let Ok(Ok(outcome)) = tokio::time::timeout(VERDICT_MAX, verdict).await else { return Err(busy()) };
        outcome.map_err(|refusal| {
            let event = AuditEvent::new(AuditKind::AuthRefused).transport("http").reason(refusal.reason);
            self.audit.record(match address {
                Some(address) => event.address(address),
                None => event,
            });
            refused(refusal)
        })
    }
}

/// Exchanges a token for a ticket.
pub(in crate::edge) async fn ticket(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
) -> Result<Response, HttpRefusal> {
    #[derive(Serialize)]
    struct TicketAnswer<'t> {
        ticket: &'t str,
        expires_ms: u64,
    }
    let origin = origin(request.headers()).map(String::into_boxed_str);
    let takes_tickets = context.gatekeeper.takes_credentials() && context.terms.requests().credentials.ticket;
    let token = bearer(request.headers()).filter(|_| takes_tickets);
    let Some(token) = token else { return Err(unauthenticated("Bearer")) };
    let address = request.extensions().get::<WebClient>().and_then(|client| client.address);
    drop(request);
    let (reply, verdict) = oneshot::channel();
    context.gatekeeper.issue_ticket(token, address, origin, Box::new(move |outcome| drop(reply.send(outcome))));
    let ticket = context.await_verdict(verdict, address).await?;
    let answer = TicketAnswer { ticket: &ticket, expires_ms: TICKET_LIFE.as_millis() as u64 };
    let mut response = json_of(StatusCode::OK, &answer);
    response.headers_mut().insert(header::CACHE_CONTROL, PRIVATE);
    Ok(response)
}

/// For answers that only one client may see.
pub(in crate::edge) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// The same words whatever is wrong with the credential.
pub(in crate::edge) fn refused(refusal: AuthRefusal) -> HttpRefusal {
    let (code, sentence) = (refusal.goodbye.label(), refusal.goodbye.sentence());
    match refusal.goodbye {
        Goodbye::Forbidden => HttpRefusal::new(StatusCode::FORBIDDEN, code, sentence),
        Goodbye::TooManySubjectSessions => {
            HttpRefusal::new(StatusCode::TOO_MANY_REQUESTS, code, sentence).with(header::RETRY_AFTER, "30")
        }
        Goodbye::Overloaded => busy(),
        _ => unauthenticated("Bearer error=\"invalid_token\""),
    }
}

fn busy() -> HttpRefusal {
    let message = "expected a verdict about the token, found too many that wait for one; try again in a second";
    HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).with(header::RETRY_AFTER, "1")
}

pub(in crate::edge) fn unauthenticated(challenge: &'static str) -> HttpRefusal {
    let goodbye = Goodbye::Unauthenticated;
    let message = "expected a valid token, as in `Authorization: Bearer TOKEN`, found none; get a fresh one";
    HttpRefusal::new(StatusCode::UNAUTHORIZED, goodbye.label(), message).with(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(header::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn a_credential_is_found_where_clients_may_show_one_and_nowhere_else() {
        let all =
            CredentialSources { header: true, subprotocol: true, cookie: Some("__Host-token".into()), ticket: true };
        let none = CredentialSources { header: false, subprotocol: false, cookie: None, ticket: false };
        let encoded = format!("fanline.v1, fanline.bearer.{}", BASE64_URL_SAFE_NO_PAD.encode("two"));
        let (auth, protocol, jar) = (header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL, header::COOKIE);
        for (lines, ticket, expected) in [
            (vec![(auth.clone(), "Bearer one")], None, Some("one")),
            (vec![(auth.clone(), "bearer  one ")], None, Some("one")),
            (vec![(auth.clone(), "Basic one")], None, None),
            (vec![(auth.clone(), "Bearer one"), (auth.clone(), "Bearer two")], None, None),
            (vec![(protocol.clone(), &*encoded)], None, Some("two")),
            (vec![(protocol.clone(), "fanline.bearer.!")], None, Some("")),
            (vec![(protocol.clone(), "fanline.v1")], None, None),
            (vec![], Some("three"), Some("three")),
            (vec![(jar.clone(), "a=b; __Host-token=four; c")], None, Some("four")),
            (vec![(jar.clone(), "x__Host-token=four; __Host-tokens=four")], None, None),
            (vec![(jar.clone(), "__Host-token=four"), (jar.clone(), "__Host-token=five")], None, None),
            (vec![(jar.clone(), "__Host-token=four"), (auth.clone(), "Bearer one")], Some("three"), Some("one")),
            (vec![(jar, "__Host-token=four")], Some("three"), Some("three")),
        ] {
            let find = |sources: &CredentialSources, is_own_page| {
                let found = sources.find(&headers(&lines), ticket.map(Box::from), is_own_page);
                found.map(|(Credential::Token(text) | Credential::Ticket(text))| text.to_string())
            };
            assert_eq!(find(&all, true).as_deref(), expected, "{lines:?} {ticket:?}");
            assert_eq!(find(&none, true), None);
            if expected == Some("four") {
                assert_eq!(find(&all, false), None, "a cookie of a page that may not use it");
            }
        }
    }
}
