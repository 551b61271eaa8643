//! Every way a session ends: close code, sentence, reconnect rule, metric label.

/// Why a session ended. Close codes: RFC 6455 section 7.4.1, and 4xxx of our own (docs/PROTOCOL.md lists them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goodbye {
    /// The client sent a close frame.
    ClientClosed,
    /// The client's socket ended or broke without a close frame.
    ConnectionLost,
    /// The server is stopping; the goodbye says when to reconnect.
    Draining,
    /// The client broke the framing rules of RFC 6455 or RFC 7692.
    ProtocolError,
    /// A text message was not UTF-8, or a compressed one could not be inflated.
    InvalidPayload,
    /// An inbound message exceeded the limit.
    MessageTooBig,
    /// The client sent nothing for longer than the ping timeout.
    PingTimeout,
    /// The client accepted no bytes for longer than the write deadline.
    WriteTimeout,
    /// The client fell behind, and had chosen to be disconnected rather than to skip.
    TooSlow,
    /// A message began and did not end in time.
    MessageTimeout,
    /// The shard holds too much for clients that neither finish their messages nor read theirs.
    Overloaded,
    /// The feed is stale, and a raw session cannot be notified of it.
    FeedStale,
    /// The client has shown no valid credential in time, or its credential has expired.
    Unauthenticated,
    /// The operator wants the client to reconnect.
    Kicked,
    /// The subject has as many sessions as it may have.
    TooManySubjectSessions,
    /// A newer session of the same subject has taken the place of this one.
    Replaced,
    /// The credential was revoked, or its rights are gone.
    Forbidden,
    /// The key of a connection of TLS 1.2 has encrypted all it may.
    WornOut,
    /// The query of a client that can say nothing else asks for what is refused.
    Refused,
    /// A stream has lasted for as long as it may.
    MaxAge,
    /// Messages of the feed are missing, or it is down, and the client's dialect has no words for it.
    FeedLost,
}

impl Goodbye {
    pub const ALL: [Goodbye; 21] = [
        Goodbye::ClientClosed,
        Goodbye::ConnectionLost,
        Goodbye::Draining,
        Goodbye::ProtocolError,
        Goodbye::InvalidPayload,
        Goodbye::MessageTooBig,
        Goodbye::PingTimeout,
        Goodbye::WriteTimeout,
        Goodbye::TooSlow,
        Goodbye::MessageTimeout,
        Goodbye::Overloaded,
        Goodbye::FeedStale,
        Goodbye::Unauthenticated,
        Goodbye::Kicked,
        Goodbye::TooManySubjectSessions,
        Goodbye::Replaced,
        Goodbye::Forbidden,
        Goodbye::WornOut,
        Goodbye::Refused,
        Goodbye::MaxAge,
        Goodbye::FeedLost,
    ];

    /// Close code to send; none where the connection is gone.
    pub fn close_code(self) -> Option<u16> {
        match self {
            Goodbye::ClientClosed => Some(1000),
            Goodbye::ConnectionLost => None,
            Goodbye::Draining => Some(1001),
            Goodbye::ProtocolError => Some(1002),
            Goodbye::InvalidPayload => Some(1007),
            Goodbye::MessageTooBig => Some(1009),
            Goodbye::PingTimeout => Some(4408),
            Goodbye::WriteTimeout => Some(4409),
            Goodbye::TooSlow => Some(4410),
            Goodbye::MessageTimeout => Some(4411),
            // "Try Again Later", of the registry of RFC 6455 section 11.7.
            Goodbye::Overloaded | Goodbye::FeedStale => Some(1013),
            Goodbye::Unauthenticated => Some(4401),
            Goodbye::Kicked => Some(4412),
            Goodbye::TooManySubjectSessions => Some(4429),
            Goodbye::Forbidden => Some(4503),
            // "Service Restart", of the same registry.
            Goodbye::WornOut | Goodbye::MaxAge | Goodbye::FeedLost => Some(1012),
            // "Policy Violation" (RFC 6455 section 7.4.1).
            Goodbye::Refused => Some(1008),
            Goodbye::Replaced => Some(4509),
        }
    }

    /// Whether the client has done nothing against which coming back at once would not help.
    pub fn invites_back(self) -> bool {
        match self {
            Goodbye::Draining
            | Goodbye::PingTimeout
            | Goodbye::WriteTimeout
            | Goodbye::TooSlow
            | Goodbye::Overloaded
            | Goodbye::FeedStale
            | Goodbye::Kicked
            | Goodbye::WornOut
            | Goodbye::MaxAge
            | Goodbye::FeedLost => true,
            Goodbye::ClientClosed
            | Goodbye::ConnectionLost
            | Goodbye::ProtocolError
            | Goodbye::InvalidPayload
            | Goodbye::MessageTooBig
            | Goodbye::MessageTimeout
            | Goodbye::Unauthenticated
            | Goodbye::TooManySubjectSessions
            | Goodbye::Replaced
            | Goodbye::Forbidden
            | Goodbye::Refused => false,
        }
    }

    /// One sentence for the close frame (at most 123 bytes) and the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Goodbye::ClientClosed => "closed by the client",
            Goodbye::ConnectionLost => "the connection was lost",
            Goodbye::Draining => "the server is stopping; reconnect after the given delay",
            Goodbye::ProtocolError => "the bytes received break RFC 6455 or RFC 7692",
            Goodbye::InvalidPayload => "a message was not valid UTF-8 or could not be inflated",
            Goodbye::MessageTooBig => "a message was larger than the limit; see limits.message_bytes_max",
            Goodbye::PingTimeout => "no answer to a ping; reconnect",
            Goodbye::WriteTimeout => "no bytes were accepted for too long; reconnect and read faster",
            Goodbye::TooSlow => "fell behind with policy=disconnect; reconnect with `since` and read faster",
            Goodbye::MessageTimeout => "a message did not end in time; see limits.message_timeout",
            Goodbye::Overloaded => "too many clients are in the middle of a message; reconnect, and send whole ones",
            Goodbye::FeedStale => "the feed is stale, and format=raw has no notifications; reconnect until it is live",
            Goodbye::Unauthenticated => "no valid token; reconnect with a fresh one",
            Goodbye::Kicked => "the operator asks for a reconnect, with a fresh token",
            Goodbye::TooManySubjectSessions => "too many sessions of this user; close one, or reconnect later",
            Goodbye::Replaced => "a newer session of this user has taken its place; do not reconnect by itself",
            Goodbye::Forbidden => "access was withdrawn; do not reconnect with this token",
            Goodbye::WornOut => "the connection needs new encryption keys, which TLS 1.2 lacks; reconnect",
            Goodbye::Refused => "what the query asks for is refused; see the error before",
            Goodbye::MaxAge => "the stream has lasted for long enough (sse.age_max); reconnect and resume",
            Goodbye::FeedLost => "the feed is down, or messages of it are missing; reconnect",
        }
    }

    /// What to do about it, if that is not in the sentence: for the operator, who was asked why.
    pub fn remedy(self) -> &'static str {
        match self {
            Goodbye::ClientClosed => "nothing: the client, or a proxy before it, said that it was done",
            Goodbye::ConnectionLost => "look at the network, at proxies and at their timeouts; fanline did not end it",
            Goodbye::Draining => "nothing: the server stopped or was replaced; clients come back by themselves",
            Goodbye::ProtocolError | Goodbye::InvalidPayload => {
                "correct the client's WebSocket library, or the proxy that changes its bytes"
            }
            Goodbye::MessageTooBig => "split the command, or raise limits.message_bytes_max",
            Goodbye::PingTimeout => {
                "have the client answer pings, which a busy or sleeping one does not; or raise ping.timeout"
            }
            Goodbye::WriteTimeout => {
                "have the client read, ask for fewer topics, a pace (`every`) or compression; or raise slow.write_deadline"
            }
            Goodbye::TooSlow => {
                "have the client read faster, ask for fewer topics or a pace (`every`), or use policy=conflate"
            }
            Goodbye::MessageTimeout => "have the client send whole messages; or raise limits.message_timeout",
            Goodbye::Overloaded => {
                "look for clients that do not read; raise slow.unsent_bytes_total_max or limits.inbound_bytes_total_max"
            }
            Goodbye::FeedStale => "wait for the feed; format=envelope stays connected (raw.on_stale)",
            Goodbye::FeedLost => "look at the feed; clients of a dialect cannot be told of it and reconnect",
            Goodbye::Unauthenticated => {
                "have the client show a new token before the old one expires, by the command `auth`"
            }
            Goodbye::Kicked => "nothing: the operator asked for it, or rights changed in the middle of a message",
            Goodbye::TooManySubjectSessions => {
                "close other sessions of the subject, or raise its tier's limit of sessions"
            }
            Goodbye::Replaced => "nothing: a newer session of the same subject has its place",
            Goodbye::Forbidden => "give the subject rights again (`fanline admin revocations`), or leave it out",
            Goodbye::WornOut => "nothing; use TLS 1.3 to keep connections for longer",
            Goodbye::Refused => "correct what the query asks for, as the error before says",
            Goodbye::MaxAge => "nothing: the client resumes; sse.age_max says how long a stream lasts",
        }
    }

    /// Value of the `reason` label of `fanline_goodbyes_total`, and of `code` in a `goodbye` message.
    pub fn label(self) -> &'static str {
        match self {
            Goodbye::ClientClosed => "client_closed",
            Goodbye::ConnectionLost => "connection_lost",
            Goodbye::Draining => "draining",
            Goodbye::ProtocolError => "protocol_error",
            Goodbye::InvalidPayload => "invalid_payload",
            Goodbye::MessageTooBig => "message_too_big",
            Goodbye::PingTimeout => "ping_timeout",
            Goodbye::WriteTimeout => "write_timeout",
            Goodbye::TooSlow => "too_slow",
            Goodbye::MessageTimeout => "message_timeout",
            Goodbye::Overloaded => "overloaded",
            Goodbye::FeedStale => "feed_stale",
            Goodbye::Unauthenticated => "unauthenticated",
            Goodbye::Kicked => "kicked",
            Goodbye::TooManySubjectSessions => "too_many_sessions",
            Goodbye::Replaced => "replaced",
            Goodbye::Forbidden => "forbidden",
            Goodbye::WornOut => "worn_out",
            Goodbye::Refused => "refused",
            Goodbye::MaxAge => "max_age",
            Goodbye::FeedLost => "feed_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goodbye_fits_a_close_frame_and_has_its_own_label() {
        let mut labels = std::collections::HashSet::new();
        for goodbye in Goodbye::ALL {
            assert!(goodbye.sentence().len() <= 123, "{goodbye:?}");
            assert!(labels.insert(goodbye.label()), "{goodbye:?}");
        }
    }
}
