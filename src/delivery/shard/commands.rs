//! What commands do.

use crate::access::rights::Rights;
use crate::audit::event::AuditKind;
use crate::bus::demand::requests::RequestKind;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::awaited_cursor::SubscribeCommand;
use crate::delivery::sessions::command_effect::CommandEffect;
use crate::delivery::shard::Shard;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::{Command, CommandId, CommandRefusal};
use crate::protocol::encoding::Encoding;
use crate::protocol::server_message::ServerMessage;
use crate::words::stamp::Stamp;

impl<S: Socket> Shard<S> {
    /// Carries out a command. The answer must be sent before anything else is.
    pub(super) fn obey(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        command: Command,
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        self.check_authenticated(id, &command)?;
        match command {
            Command::Auth { token } => self.authenticate(id, command_id, token),
            Command::Ping => Ok(CommandEffect::Pong),
            Command::Send { topic, data } => {
                self.check_granted(id, |rights| rights.send.allows(Some(&topic), &data))?;
                self.pass_on(id, command_id, RequestKind::Send { topic, data })
            }
            Command::Request { data, timeout } => {
                self.check_granted(id, |rights| rights.request.allows(None, &data))?;
                self.pass_on(id, command_id, RequestKind::Request { data, timeout })
            }
            Command::Unsubscribe { patterns, brief } => self.unsubscribe(id, &patterns, brief, now),
            Command::Subscribe { patterns, every, since, policy, brief } => {
                let command = SubscribeCommand { patterns, every, since, policy, brief };
                match since.filter(|since| !self.sessions[id].has_subscribed && self.lags_behind(since)) {
                    Some(since) => {
                        self.await_cursor(id, command_id, (command, since), now);
                        Ok(CommandEffect::PassedOn)
                    }
                    None => self.obey_subscribe(id, command, now),
                }
            }
        }
    }

    pub(super) fn obey_subscribe(
        &mut self,
        id: SessionId,
        SubscribeCommand { patterns, every, since, policy, brief }: SubscribeCommand,
        now: Stamp,
    ) -> Result<CommandEffect, CommandRefusal> {
        let pace_now = self.sessions[id].access.asked_every();
        let every = every.map_or(pace_now, |every| Some(every).filter(|every| !every.is_zero()));
        let effect = self.subscribe(id, patterns, SubscribeTerms { every, since, brief }, now)?;
        if let Some(policy) = policy {
            self.sessions[id].policy = policy;
        }
        Ok(effect)
    }

    /// Whether the client's rights allow what it asks the feed for.
    fn check_granted(&self, id: SessionId, allows: impl FnOnce(&Rights) -> bool) -> Result<(), CommandRefusal> {
        if self.sessions[id].access.grant().is_some_and(|grant| allows(&grant.rights)) {
            return Ok(());
        }
        let message = "expected a command that the client's rights allow, found one that they do not";
        self.meters.requested("forbidden");
        self.record_reason(id, AuditKind::Refuse, "forbidden");
        Err(CommandRefusal::new("forbidden", message))
    }

    pub(super) fn refuse(
        &mut self,
        id: Option<&CommandId>,
        refusal: &CommandRefusal,
        encoding: Encoding,
        out: &mut Vec<u8>,
    ) {
        self.meters.refused(refusal.code);
        ServerMessage::Error { id, code: refusal.code, message: &refusal.message }.put(encoding, out);
    }
}
