//! Clients that come from another server of a cluster with a cursor that is ahead of this one: their first `subscribe`
//! waits until this server has what they have seen, for as long as a server may be behind.
//!
//! Their further commands wait meanwhile. Ten times a second those that wait are looked at; usually there are none.

use crate::access::rights::ViewId;
use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::awaited_cursor::{AwaitedCursor, SubscribeCommand};
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::CommandId;
use crate::words::ids::Cursor;
use crate::words::stamp::Stamp;

/// Commands done in one look: about 20 us each, and others are served in between.
const AT_ONCE: usize = 256;

impl<S: Socket> Shard<S> {
    /// Whether this server has not shown yet what a client with this cursor has seen elsewhere. Alone it never waits.
    pub(super) fn lags_behind(&self, since: &Cursor) -> bool {
        let reader = self.log.reader();
        let may_lag = !self.settings.behind_max.is_zero() && self.view == ViewId::LIVE;
        may_lag && since.epoch == reader.epoch() && since.offset > reader.head()
    }

    /// Holds the command until this server has everything up to its cursor.
    pub(super) fn await_cursor(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        (command, since): (SubscribeCommand, Cursor),
        now: Stamp,
    ) {
        let until_ns =
            now.mono_ns.saturating_add(u64::try_from(self.settings.behind_max.as_nanos()).unwrap_or(u64::MAX));
        let awaited = AwaitedCursor { command_id: command_id.cloned(), command, since, until_ns };
        self.sessions[id].awaited_cursor = Some(Box::new(awaited));
        self.awaiting_cursors.push(id);
    }

    /// A session that waits has come from another shard.
    pub(super) fn go_on_awaiting(&mut self, id: SessionId) {
        if self.sessions[id].awaited_cursor.is_some() {
            self.awaiting_cursors.push(id);
        }
    }

    /// Does the commands whose cursors this server has reached, or has not within the time.
    pub(super) fn look_for_cursors(&mut self, now: Stamp) {
        let mut done = 0;
        for id in std::mem::take(&mut self.awaiting_cursors) {
            if done == AT_ONCE {
                self.awaiting_cursors.push(id);
                continue;
            }
            // The session may be gone, and its id be another one's.
            let Some(session) = self.sessions.get_mut(id).filter(|session| !session.is_leaving()) else { continue };
            let is_clear = session.is_clear();
            let Some(awaited) = session.awaited_cursor.take() else { continue };
            if !is_clear || (now.mono_ns < awaited.until_ns && self.lags_behind(&awaited.since)) {
                self.sessions[id].awaited_cursor = Some(awaited);
                self.awaiting_cursors.push(id);
                continue;
            }
            done += 1;
            let AwaitedCursor { command_id, command, .. } = *awaited;
            let (mut answers, mut compression) = (Vec::new(), Compression::Plain);
            let encoding = self.sessions[id].encoding();
            match self.obey_subscribe(id, command, now) {
                Ok(effect) => {
                    let topics = self.lanes.texts(self.sessions[id].lane());
                    effect.put(command_id.as_ref(), topics, (encoding, now), &mut answers);
                    compression = effect.compression().unwrap_or(compression);
                }
                Err(refusal) => self.refuse(command_id.as_ref(), &refusal, encoding, &mut answers),
            }
            self.send_answers(id, (answers, compression), false, now);
        }
    }
}

#[cfg(test)]
mod tests;
