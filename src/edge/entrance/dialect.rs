//! WebSockets that speak the dialect of a venue's clients, at the paths that the profile names.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use axum::middleware::Next;

use crate::edge::entrance::agreement::{Agreed, Denial, admit, by_code};
use crate::edge::entrance::handshake::{Handshake, is_upgrade};
use crate::edge::entrance::query::SessionQuery;
use crate::edge::entrance::websocket::{check_feed, upgraded};
use crate::edge::http::answer::{HttpRefusal, address_of};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::credentials::unauthenticated;
use crate::profile::downstream::Dialect;
use crate::profile::downstream::paths::UrlTerms;
use crate::protocol::command::Policy;
use crate::protocol::encoding::Format;

/// Answers upgrades at the paths of the dialect, and passes everything else on.
pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let dialect = context.dialect.clone().filter(|_| is_upgrade(request.headers()));
    let terms = dialect.and_then(|dialect| {
        let terms = dialect.terms_of(request.uri().path(), request.uri().query())?;
        Some((dialect, terms))
    });
    let Some((dialect, terms)) = terms else { return next.run(request).await };
    let agreed = agree(&context, &request, &dialect, terms);
    upgraded(context, address_of(&request), agreed)
}

fn agree(
    context: &AnswerContext,
    request: &Request<Body>,
    dialect: &Dialect,
    terms: Result<UrlTerms, String>,
) -> Result<(Handshake, Agreed), Denial> {
    let subprotocols: Vec<&str> = dialect.subprotocols.iter().map(String::as_str).collect();
    let handshake = Handshake::read(request, (false, &subprotocols)).map_err(by_code)?;
    let UrlTerms { form, items } = terms.map_err(|sentence| by_code(HttpRefusal::bad("bad_request", sentence)))?;
    let patterns = items.iter().flat_map(|item| dialect.topics_of(item)).collect();
    let format = Format::Form(form);
    let query = || Ok(SessionQuery { patterns, format, policy: Policy::Disconnect, ..SessionQuery::default() });
    let mut agreed = admit(context, request, query, |_, is_open| {
        if is_open && dialect.stale_close.is_some() {
            let word = |reason| format!("expected a live feed, found it stale (`{reason}`); try again in a second");
            check_feed(context, word).map_err(by_code)?;
        }
        Ok(())
    })?;
    if agreed.options.presented.credential.is_none() && context.gatekeeper.anonymous().is_none() {
        // It could not show one later.
        return Err(by_code(unauthenticated("Bearer")));
    }
    agreed.options.items = items;
    Ok((handshake, agreed))
}
