//! Cursors from another server of the cluster, which may be some milliseconds ahead of this one.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::form_urlencoded;

use crate::bus::reader::Reader;
use crate::edge::http::context::AnswerContext;
use crate::words::ids::Cursor;

/// Between two looks at the head: a node is behind by less, unless it is in trouble.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until this server has what the client has seen, for as long as a server of a cluster may be behind; alone it does
/// not wait. `last_event_id` counts where there is no `since`.
pub(in crate::edge) async fn catch_up_with(context: &AnswerContext, query: Option<&str>, last_event_id: Option<&str>) {
    if context.behind_max == Duration::ZERO {
        return;
    }
    let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let since = asked.filter(|(name, _)| name == "since").last().map(|(_, value)| value);
    let text = since.as_deref().or(last_event_id);
    let Some(Ok(Cursor { epoch, offset })) = text.map(str::parse) else { return };
    let deadline = Instant::now() + context.behind_max;
    let is_behind = |reader: Reader| reader.epoch() == epoch && reader.head() < offset;
    while is_behind(context.reader()) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
