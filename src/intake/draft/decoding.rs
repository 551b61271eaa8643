//! How the frames of a feed become messages, by what they look like.

use crate::intake::classify::{FeedFrame, FeedMessage, FrameDecoder, looks};
use crate::intake::kept_messages::KeptMessage;
use crate::profile::check;
use crate::profile::section::ProfileError;

/// What is known of every chat of this kind.
pub(super) const IRC_RULES: &str = r##"ping = { as = "ping", when = ['/command == "PING"'], reply = "PONG :${/params/0|text}" }

[on.chat]
when  = ['/command in ["PRIVMSG","NOTICE"]', '/params/0 ^= "#"']
topic = "chat.${/params/0|strip:#}"
mode  = "tail"
tail  = 50

[on.state]                        # numerics, JOIN and PART: nothing that clients want
as   = "info"
when = ['/command exists']
"##;

/// The keys of `[decode]`.
#[derive(Default)]
pub(super) struct FrameFormat {
    pub keys: Vec<String>,
    pub is_irc: bool,
}

impl FrameFormat {
    pub(super) fn of(seen: &[KeptMessage]) -> FrameFormat {
        let mut decoding = FrameFormat::default();
        let packed = seen.iter().filter_map(|message| message.content.as_ref().err());
        decoding.keys.extend(packed.map(|bytes| looks::of_bytes(bytes)).find_map(looks::key));
        // What is packed must be unpacked to be seen.
        for text in decoding.messages(seen).unwrap_or_default() {
            match looks::key(looks::of_text(&text)) {
                Some(key) if key.starts_with("format") => {
                    decoding.is_irc = true;
                    decoding.keys.extend(["split  = \"lines\"".to_string(), key]);
                    break;
                }
                Some(key) => {
                    decoding.keys.push(key);
                    break;
                }
                None => {}
            }
        }
        decoding
    }

    /// The messages of the frames, in their order.
    pub(super) fn messages(&self, seen: &[KeptMessage]) -> Result<Vec<String>, ProfileError> {
        let text =
            format!("profile = 1\nname = \"draft\"\n[decode]\n{}\n[on.all]\ntopic = \"all\"\n", self.keys.join("\n"));
        let decoder = FrameDecoder::new(&check(&text, "draft")?);
        let (mut texts, mut unpacked) = (Vec::new(), Vec::new());
        for message in seen {
            let frame = match &message.content {
                Ok(text) => FeedFrame::Text(text),
                Err(bytes) => FeedFrame::Binary(bytes),
            };
            texts.extend(decoder.decode(frame, &mut unpacked).filter_map(|message| match message {
                FeedMessage::Text(text) => Some(text.to_string()),
                FeedMessage::Binary(_) | FeedMessage::Undecodable(..) => None,
            }));
        }
        Ok(texts)
    }
}
