//! A client joins: the shard takes its socket over and greets it.

use crate::access::grant::Grant;
use crate::access::shown_delay::shown_delay;
use crate::delivery::chunk::Compression;
use crate::delivery::handoff::{Presented, SessionOptions, StreamKind, StreamOptions};
use crate::delivery::lanes::lane_key::{CompressionMode, LaneKey};
use crate::delivery::lanes::lane_patterns::LanePatterns;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::sessions::session_access::{QueryTerms, SessionAccess};
use crate::delivery::shard::Shard;
use crate::delivery::shard::departure::spread_by_number;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::event_stream::EventStream;
use crate::delivery::transport::session_transport::SessionTransport;
use crate::delivery::transport::socket::Socket;
use crate::delivery::transport::websocket::WebSocket;
use crate::protocol::encoding::Framing;
use crate::protocol::event_stream::{GZIP_HEADER, put_stored};
use crate::protocol::server_message::ServerMessage;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;

/// Clients whose stream has ended come back after 1 to 5 s, each after another time.
const RETRY_MS: u64 = 1_000;
const RETRY_SPREAD_MS: u64 = 4_000;

impl<S: Socket> Shard<S> {
    /// Takes over a client whose upgrade is done. `unread` arrived with the request.
    pub fn adopt(&mut self, socket: S, unread: &[u8], mut options: SessionOptions, now: Stamp) -> SessionId {
        let (cursor, presented) = (self.log.offset(), std::mem::take(&mut options.presented));
        let mut transport = self.transport_of(&options);
        transport.push(unread);
        let key = LaneKey {
            patterns: LanePatterns::default(),
            format: options.format,
            framing: transport.framing(),
            compression: match transport.framing() {
                Framing::Gzip(_) => CompressionMode::Gzip,
                _ => CompressionMode::of(options.deflate),
            },
            every: None,
            filter: None,
        };
        // If what everybody has was changed meanwhile, and is of another view now, it is not to be had here.
        let given = if options.is_canary { Some(Grant::reading()) } else { self.gatekeeper.anonymous() };
        let grant = given.filter(|grant| grant.rights.view == self.view);
        let filter = grant.as_ref().and_then(|grant| self.lanes.filter_of(&grant.rights));
        let access = SessionAccess::new(grant, filter, options.every);
        let mut session = Session::new(socket, transport, &options, (self.numbers.next(), access), (cursor, now));
        session.feed_version = self.log.feed_version_to_join();
        session.share = self.demand.share(options.address).map(Box::new);
        session.dialect = self.dialect_session(&mut options);
        let id = self.sessions.insert(session);
        if !options.is_canary {
            self.meters.adopted.increment(1);
            self.record_open(id, options.user_agent.as_deref());
        }
        let lane = self.lanes.lane_to_join(key, (cursor, now));
        self.sessions.join_lane(id, lane, &mut self.lanes);
        self.greet(id, (options, presented), now);
        self.sessions.count_inbound(id, now);
        self.drain_one(id, now);
        self.sessions.enqueue(id);
        id
    }

    fn transport_of(&self, options: &SessionOptions) -> SessionTransport {
        match &options.stream {
            Some(stream) => {
                let framing = stream.framing(self.log.reader().epoch());
                SessionTransport::EventStream(EventStream::new(framing))
            }
            None if options.format.is_form() => {
                SessionTransport::WebSocket(WebSocket::of_dialect(self.settings.limits.message_bytes_max))
            }
            None => {
                let message_bytes_max = self.settings.limits.message_bytes_max;
                SessionTransport::WebSocket(WebSocket::new(message_bytes_max, options.deflate.is_some()))
            }
        }
    }

    /// What comes before the first message of a stream: the head, and when to come back once it has ended.
    fn put_opening(&self, id: SessionId, stream: &StreamOptions, out: &mut Vec<u8>) {
        out.extend_from_slice(&stream.head);
        if stream.kind == StreamKind::Events {
            let retry_ms = RETRY_MS + spread_by_number(self.sessions[id].number, RETRY_SPREAD_MS);
            let opening = format!("retry: {retry_ms}\n\n");
            if stream.gzip {
                out.extend_from_slice(&GZIP_HEADER);
                put_stored(out, opening.as_bytes());
            } else {
                out.extend_from_slice(opening.as_bytes());
            }
        }
    }

    /// The first messages: `welcome`, and the answer to the query.
    fn greet(&mut self, id: SessionId, (options, presented): (SessionOptions, Presented), now: Stamp) {
        let encoding = self.sessions[id].encoding();
        let mut out = Vec::new();
        if let Some(stream) = &options.stream {
            self.put_opening(id, stream, &mut out);
        }
        let grant = self.sessions[id].access.grant();
        // Offsets show how much happens, which may be more than a client may see that has shown nothing.
        let offset = grant.map_or(Offset::START, |_| self.log.offset());
        let delay = grant.and_then(|grant| shown_delay(&grant.rights));
        ServerMessage::Welcome {
            protocol: "fanline.v1",
            epoch: self.log.reader().epoch(),
            offset,
            ts: now.wall_ms,
            heartbeat_ms: self.settings.heartbeat.interval.as_millis() as u64,
            session: self.sessions[id].number,
            simulated: self.settings.simulated,
            delay_ms: delay.as_ref(),
        }
        .put(encoding, &mut out);
        self.put_greeting(id, now, &mut out);
        let mut is_refused = false;
        if self.awaits_credential(id, presented) {
            let query = QueryTerms { patterns: options.patterns, since: options.since };
            let waiting = Some(query).filter(|query| !query.patterns.is_empty());
            self.sessions[id].access.auth_or_new().waiting_query = waiting;
        } else if !options.patterns.is_empty() {
            let terms = SubscribeTerms { every: options.every, since: options.since, brief: false };
            let subscribed = self.subscribe(id, options.patterns, terms, now);
            match subscribed {
                Ok(effect) => {
                    let topics = self.lanes.texts(self.sessions[id].lane());
                    effect.put(None, topics, (encoding, now), &mut out);
                    is_refused = effect.is_partial() && self.sessions[id].is_told_nothing();
                }
                Err(refusal) => {
                    self.refuse(None, &refusal, encoding, &mut out);
                    is_refused = true;
                }
            }
        }
        self.sessions.send(id, out, Compression::Plain);
        if is_refused {
            self.dismiss_mute(id, now);
        }
    }

    /// Whether the client shows a credential, or has to, before what its query asks for is done.
    fn awaits_credential(&mut self, id: SessionId, presented: Presented) -> bool {
        if !self.gatekeeper.takes_credentials() || self.sessions[id].is_canary {
            return false;
        }
        let Presented { credential, origin, promises_auth, waiting_place } = presented;
        let is_anonymous = self.sessions[id].access.grant().is_some();
        if !is_anonymous {
            self.sessions[id].access.auth_or_new().waiting_place = waiting_place;
        }
        let Some(credential) = credential else { return promises_auth || !is_anonymous };
        self.verify(id, None, credential, origin);
        true
    }
}
