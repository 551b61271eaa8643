//! Who decides about clients: a gatekeeper of tokens if the configuration has `[auth]` tables, else nobody.

use std::sync::{Arc, OnceLock};

use crate::access::gatekeeper::{Gatekeeper, Open};
use crate::access::rights::ViewDelay;
use crate::access::selector::ReachedSessions;
use crate::app::AppError;
use crate::delivery::shards::Delivery;
use crate::identity::keys::issuer_keys::FetchTimes;
use crate::identity::meters::announce;
use crate::identity::tables::AuthTables;
use crate::identity::token_gatekeeper::{TokenGatekeeper, TokenGatekeeperParts};
use crate::settings::table::AuthSettings;
use crate::words::metrics::Meters;

/// The gatekeeper, and its way to the sessions.
pub(super) struct Gatekeeping {
    pub gatekeeper: Arc<dyn Gatekeeper>,
    pub identities: Option<Arc<TokenGatekeeper>>,
    /// Delivery is started with the gatekeeper, so its orders reach it only afterwards. Before, there are no
    /// sessions.
    delivery: Arc<OnceLock<Arc<Delivery>>>,
}

impl Gatekeeping {
    pub(super) fn start(settings: &AuthSettings, tables: AuthTables, meters: &Meters) -> Result<Gatekeeping, AppError> {
        let delivery = Arc::<OnceLock<Arc<Delivery>>>::default();
        if !is_in_use(settings, &tables) {
            announce(meters);
            return Ok(Gatekeeping { gatekeeper: Arc::new(Open), identities: None, delivery });
        }
        let ordered = delivery.clone();
        let identities = Arc::new(TokenGatekeeper::start(TokenGatekeeperParts {
            settings: settings.clone(),
            tables,
            fetch_times: FetchTimes::with_stale_max(settings.jwks_stale_max),
            orders: Arc::new(move |selector, order| {
                let delivery = ordered.get();
                delivery.map_or_else(ReachedSessions::none, |delivery| delivery.order(&selector, &order))
            }),
            meters: meters.clone(),
        })?);
        Ok(Gatekeeping { gatekeeper: identities.clone(), identities: Some(identities), delivery })
    }

    /// The views of the feed besides the live one: the first is `ViewId(1)`.
    pub(super) fn views(&self) -> Box<[ViewDelay]> {
        self.identities.as_ref().map(|identities| identities.views()).unwrap_or_default()
    }

    /// From now on its orders reach the sessions.
    pub(super) fn connect(&self, delivery: &Arc<Delivery>) {
        assert!(self.delivery.set(delivery.clone()).is_ok(), "there is one delivery");
    }
}

/// Whether there are identities: any table below `[auth]`, or `auth.required`.
pub(crate) fn is_in_use(settings: &AuthSettings, tables: &AuthTables) -> bool {
    settings.required || *tables != AuthTables::default()
}
