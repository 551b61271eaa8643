//! A shard gets other settings while it serves.
//!
//! | setting | for sessions that are there |
//! |---|---|
//! | bounds, deadlines, rates | from their next use on |
//! | `heartbeat.interval` | a shorter one; a longer one only in the greeting of others, since clients were promised theirs |
//! | `limits.message_bytes_max`, `slow.unsent_bytes_max` | as at their greeting |

use crate::delivery::session_id::SessionId;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;

impl<S: Socket> Shard<S> {
    pub fn change_settings(&mut self, settings: Settings) {
        let ids = (0..self.sessions.capacity()).map(SessionId);
        // The sweep hears those again that are over their rate. With a higher one they are not, and nobody would.
        let throttled: Vec<SessionId> = ids
            .filter(|id| self.sessions.get(*id).is_some_and(|session| session.is_throttled(&self.settings)))
            .collect();
        self.inbound.patterns_max = settings.limits.patterns_max;
        self.heartbeat_ns = self.heartbeat_ns.min(settings.heartbeat.interval.as_nanos() as u64);
        self.settings = settings;
        for id in throttled {
            self.sessions.enqueue(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::settings::table::HeartbeatSettings;

    const SECOND: Duration = Duration::from_secs(1);

    fn heartbeats(client: &HarnessClient) -> usize {
        client.received().iter().filter(|message| message["op"] == "heartbeat").count()
    }

    #[test]
    fn a_client_over_the_former_rate_is_heard_with_a_higher_one() {
        let mut harness = Harness::open();
        harness.shard.settings.limits.messages_per_second_max = 2;
        let client = harness.join();
        for n in 0..5 {
            harness.send(&client, &format!("{{\"op\":\"ping\",\"id\":{n}}}"));
        }
        harness.settle();
        assert_eq!(client.received().len(), 2);
        let mut settings = harness.shard.settings;
        settings.limits.messages_per_second_max = 100;
        harness.shard.change_settings(settings);
        harness.settle();
        assert_eq!(client.received().len(), 3, "no further byte of the client has arrived");
    }

    #[test]
    fn a_longer_interval_of_heartbeats_breaks_no_promise() {
        let mut harness = Harness::open();
        let beat = |harness: &mut Harness, interval: Duration| {
            let settings = harness.shard.settings;
            harness.shard.change_settings(crate::delivery::settings::Settings {
                heartbeat: HeartbeatSettings { interval },
                ..settings
            });
        };
        beat(&mut harness, 2 * SECOND);
        let client = harness.join();
        (0..4).for_each(|_| harness.pass_second());
        assert_eq!(heartbeats(&client), 2);
        beat(&mut harness, 60 * SECOND);
        let other = harness.join();
        client.received();
        (0..4).for_each(|_| harness.pass_second());
        assert_eq!((heartbeats(&client), heartbeats(&other)), (2, 2));
    }
}
