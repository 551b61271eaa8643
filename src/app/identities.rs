//! Who decides about clients: the doorman of a server with identities; without `[auth]` nobody.

use std::sync::{Arc, OnceLock};

use crate::access::gatekeeper::{Gatekeeper, Open};
use crate::access::rights::ViewDelay;
use crate::delivery::shards::Delivery;
use crate::identity::doorman::{Doorman, DoormanParts, OrderSessions};
use crate::identity::error::Error;
use crate::identity::keys::issuer_keys::FetchTimes;
use crate::identity::tables::AuthTables;
use crate::settings::table::AuthSettings;
use crate::words::metrics::Meters;

pub(super) struct OpenIdentities {
    pub gatekeeper: Arc<dyn Gatekeeper>,
    /// The views of the feed besides the live one.
    pub views: Vec<ViewDelay>,
    /// Takes the doorman's orders, once there are shards.
    delivery: Arc<OnceLock<Arc<Delivery>>>,
}

impl OpenIdentities {
    pub fn open(settings: &AuthSettings, tables: &AuthTables, meters: &Meters) -> Result<OpenIdentities, Error> {
        let delivery = Arc::<OnceLock<Arc<Delivery>>>::default();
        if tables.issuers.is_empty() && tables.anonymous.is_none() && !settings.required {
            return Ok(OpenIdentities { gatekeeper: Arc::new(Open), views: Vec::new(), delivery });
        }
        let shards = delivery.clone();
        let orders: OrderSessions = Arc::new(move |selector, order| {
            // Before there are shards there are no sessions.
            if let Some(delivery) = shards.get() {
                delivery.order(&selector, &order);
            }
        });
        let doorman = Doorman::start(DoormanParts {
            settings: settings.clone(),
            tables: tables.clone(),
            fetch_times: FetchTimes::with_stale_max(settings.jwks_stale_max),
            orders,
            meters: meters.clone(),
        })?;
        let views = doorman.views().into();
        Ok(OpenIdentities { gatekeeper: Arc::new(doorman), views, delivery })
    }

    /// The shards, which obey from now on.
    pub fn command(&self, delivery: &Arc<Delivery>) {
        // There is one delivery in a process.
        let _ = self.delivery.set(delivery.clone());
    }
}
