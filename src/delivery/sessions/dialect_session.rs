//! What a session has besides, whose client speaks a dialect. It knows no message of the server's own, so that what is
//! missing is told by the end of the session.

use crate::profile::downstream::kept::KeptValues;
use crate::profile::downstream::session_items::SessionItems;
use crate::words::ids::Offset;

pub struct DialectSession {
    pub items: SessionItems,
    pub kept: KeptValues,
    /// How often the feed had been lost when the client was up to date.
    pub losses: u32,
    /// Where its subscription begins.
    pub since: Offset,
}
