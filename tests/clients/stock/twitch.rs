//! tmi.js, which reads chat.

use super::venue_client::{ClientHome, VenueClient};
use super::venue_file::{part_of, put_line, written};

const CHAT: VenueClient = VenueClient {
    name: "tmi",
    home: ClientHome::Node,
    profile: "twitch",
    items: &["chat.tea", "chat.coffee"],
    speed: "max",
};

/// What is said in a room, and done to it.
const ROUNDS: u64 = 100;
/// Events of a round in the two rooms.
const EACH: usize = 6;

#[test]
fn tmi_js_sees_through_fanline_what_it_sees_at_the_venue() {
    let file = written("twitch", &messages());
    let of_the_rooms = |message: &serde_json::Value| message.as_str().is_some_and(|text| !text.contains("#milk"));
    let (asked_for, _) = part_of("twitch-asked", &file, &[], of_the_rooms);
    // It takes no server that does not speak `irc`, as a replay does not.
    CHAT.compare_with_patient(&asked_for, &file, (0, ROUNDS as usize * EACH));
    CHAT.survive_a_loss(&file, "0.1");
}

fn messages() -> String {
    let mut lines = String::new();
    put_line(&mut lines, 0, ":tmi.twitch.tv CAP * ACK :twitch.tv/tags twitch.tv/commands\r\n");
    put_line(&mut lines, 1, ":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!\r\n:tmi.twitch.tv 376 justinfan1 :>\r\n");
    let mut t_ms = 2;
    for number in 0..ROUNDS {
        for room in ["tea", "coffee", "milk"] {
            let ann = ":ann!ann@ann.tmi.twitch.tv";
            let said = format!(
                "@badges=;color=#19E6E6;display-name=Ann;emotes=;id=a{number} {ann} PRIVMSG #{room} :{number}: \u{1f375} all\r\n"
            );
            let resub = format!(
                "@display-name=Bo;login=bo;msg-id=resub;msg-param-streak-months={number};msg-param-sub-plan=Prime :tmi.twitch.tv USERNOTICE #{room} :again\r\n"
            );
            // Two lines in one message.
            let ended = format!(
                "@login=ann;target-msg-id=a{number} :tmi.twitch.tv CLEARMSG #{room} :{number}: all\r\n@ban-duration={number} :tmi.twitch.tv CLEARCHAT #{room} :cy\r\n"
            );
            let messages: &[String] = if room == "tea" { &[said, resub, ended] } else { &[said, resub] };
            for message in messages {
                put_line(&mut lines, t_ms, message);
                t_ms += 2;
            }
        }
    }
    lines
}
