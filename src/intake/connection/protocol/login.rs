//! Logins that end: they are renewed before, on the open connection or by a new one.

use std::sync::Arc;

use crate::profile::connection::Login;
use crate::profile::lifespan::Lifespan;
use crate::profile::request::TakenValues;
use crate::words::stamp::Stamp;

use crate::intake::connection::lease::renewal_after;
use crate::intake::connection::protocol::{OpeningState, Protocol, ProtocolAction};
use crate::intake::time::ns;

impl Protocol {
    /// The login was sent. Without a rule for the answer its life begins now.
    pub(super) fn login_sent(&mut self, login: &Login, now: Stamp) {
        self.login_at_ns = match (&login.life, &login.ok) {
            (Some(Lifespan::Fixed(life)), None) => Some(now.mono_ns.saturating_add(ns(renewal_after(*life)))),
            _ => None,
        };
    }

    /// A message of class `auth_ok` arrived, by this rule.
    pub(super) fn logged_in(&mut self, rule: &str, text: &str, now: Stamp) {
        let config = self.config.clone();
        let Some(login) = config.login.as_ref().filter(|login| login.ok.as_deref() == Some(rule)) else { return };
        self.login_by_ns = None;
        self.login_at_ns = match login.life.as_ref().map(|life| life.left(text, now)) {
            None => None,
            Some(Ok(life)) => Some(now.mono_ns.saturating_add(ns(renewal_after(life)))),
            Some(Err(error)) => {
                tracing::warn!("upstream: the login is not renewed before it ends: {error}");
                None
            }
        };
    }

    /// The requests before the connection have given new values.
    pub(crate) fn renew(&mut self, taken: Arc<TakenValues>, logs_in: bool, now: Stamp) {
        self.taken = taken;
        if logs_in && self.stage == OpeningState::Open {
            self.login_at_ns = Some(now.mono_ns);
        }
    }

    /// Logs in again, if it is time.
    pub(super) fn log_in_again(&mut self, now: Stamp) -> Option<ProtocolAction> {
        self.login_at_ns.filter(|at| self.stage == OpeningState::Open && *at <= now.mono_ns)?;
        self.login_at_ns = None;
        let config = self.config.clone();
        let login = config.login.as_ref()?;
        if login.reconnects {
            return Some(ProtocolAction::Replace);
        }
        self.say_first(&login.send, now);
        self.login_sent(login, now);
        self.login_by_ns = login.ok.as_ref().map(|_| now.mono_ns.saturating_add(ns(login.timeout)));
        None
    }
}
