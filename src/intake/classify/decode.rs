//! Frames to messages, by the profile's `[decode]`: binary frames are unpacked, and lines are split.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

use crate::intake::classify::{Unnamed, looks};
use crate::json::is_json;
use crate::profile::Profile;
use crate::profile::decode::{Binary, Decode};

/// Characters of a message that the log shows.
const EXCERPT_CHARS: usize = 200;
/// Longest message in a compressed frame if the profile sets no limit: the default of the settings.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A window of this many bytes is always granted (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;

/// A WebSocket message, which may hold several messages of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedFrame<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// One message of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedMessage<'a> {
    Text(&'a str),
    /// Published as it is.
    Binary(&'a [u8]),
    /// Bytes without a message, and why.
    Undecodable(&'a [u8], Unnamed),
}

/// The messages of one frame, in their order.
#[derive(Debug)]
pub enum FeedMessages<'a> {
    One(Option<FeedMessage<'a>>),
    Lines(std::str::Split<'a, char>),
}

/// Decoder of one feed's frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameDecoder {
    decode: Decode,
    /// Binary messages that are not JSON are published.
    takes_binary: bool,
    message_bytes_max: usize,
}

impl<'a> FeedMessage<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            FeedMessage::Text(text) => text.as_bytes(),
            FeedMessage::Binary(bytes) | FeedMessage::Undecodable(bytes, _) => bytes,
        }
    }
}

impl FeedMessage<'_> {
    /// Its beginning, fit for a line of the log.
    pub fn excerpt(&self) -> String {
        match self {
            FeedMessage::Text(text) => shortened(text),
            FeedMessage::Binary(bytes) | FeedMessage::Undecodable(bytes, _) => {
                shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_CHARS)]))
            }
        }
    }
}

fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(EXCERPT_CHARS).map(clean).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl FrameDecoder {
    pub fn new(profile: &Profile) -> FrameDecoder {
        FrameDecoder {
            decode: profile.rules.decode,
            takes_binary: profile.name == "generic",
            message_bytes_max: profile.connect.message_bytes_max.unwrap_or(MESSAGE_BYTES_MAX),
        }
    }

    /// The messages of a frame; `unpacked` is where a compressed one is unpacked.
    pub fn decode<'a>(&self, frame: FeedFrame<'a>, unpacked: &'a mut Vec<u8>) -> FeedMessages<'a> {
        let packed = match frame {
            FeedFrame::Text(text) => return self.split(text),
            FeedFrame::Binary(bytes) => bytes,
        };
        let message = match unpack(self.decode.binary, packed, self.message_bytes_max, unpacked) {
            Ok(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !self.takes_binary || is_json(text) => return self.split(text),
                // Packed data are of no use to anyone who does not know it.
                _ => match looks::of_bytes(bytes) {
                    "" if self.takes_binary => FeedMessage::Binary(bytes),
                    hint => FeedMessage::Undecodable(bytes, Unnamed::NoText { hint }),
                },
            },
            Err(problem) => FeedMessage::Undecodable(packed, problem),
        };
        FeedMessages::One(Some(message))
    }

    fn split<'a>(&self, text: &'a str) -> FeedMessages<'a> {
        match self.decode.lines {
            true => FeedMessages::Lines(text.split('\n')),
            false => FeedMessages::One(Some(FeedMessage::Text(text))),
        }
    }
}

impl<'a> Iterator for FeedMessages<'a> {
    type Item = FeedMessage<'a>;

    fn next(&mut self) -> Option<FeedMessage<'a>> {
        match self {
            FeedMessages::One(message) => message.take(),
            FeedMessages::Lines(lines) => {
                let mut lines = lines.map(|line| line.strip_suffix('\r').unwrap_or(line));
                lines.find(|line| !line.is_empty()).map(FeedMessage::Text)
            }
        }
    }
}

/// The frame's bytes, unpacked into `unpacked` if they are compressed. More than `bytes_max` are refused as soon as
/// they appear.
fn unpack<'a>(
    binary: Binary,
    frame: &'a [u8],
    bytes_max: usize,
    unpacked: &'a mut Vec<u8>,
) -> Result<&'a [u8], Unnamed> {
    let format = match binary {
        Binary::Utf8 => return Ok(frame),
        Binary::Reject => return Err(Unnamed::NoBinary),
        Binary::Gzip => "gzip",
        Binary::Zlib => "zlib",
        Binary::Zstd => "zstd",
    };
    unpacked.clear();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = match binary {
        Binary::Gzip => GzDecoder::new(frame).take(limit).read_to_end(unpacked),
        Binary::Zlib => ZlibDecoder::new(frame).take(limit).read_to_end(unpacked),
        _ => StreamingDecoder::new_with_max_window_size(frame, limit.max(ZSTD_WINDOW_BYTES))
            .map_err(std::io::Error::other)
            .and_then(|decoder| decoder.take(limit).read_to_end(unpacked)),
    };
    match read {
        Ok(_) if unpacked.len() > bytes_max => Err(Unnamed::TooBig { bytes_max }),
        Ok(_) => Ok(unpacked),
        Err(_) => Err(Unnamed::Unpackable { format }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn packed(binary: Binary, bytes: &[u8]) -> Vec<u8> {
        match binary {
            Binary::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Binary::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Binary::Zstd => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
            Binary::Utf8 | Binary::Reject => bytes.to_vec(),
        }
    }

    #[test]
    fn frames_are_unpacked_up_to_the_longest_message() {
        let message = br#"{"ping":1618678073643}"#;
        for binary in [Binary::Utf8, Binary::Gzip, Binary::Zlib, Binary::Zstd] {
            let mut unpacked = Vec::new();
            let frame = packed(binary, message);
            assert_eq!(unpack(binary, &frame, message.len(), &mut unpacked), Ok(&message[..]), "{binary:?}");
        }
        assert_eq!(unpack(Binary::Reject, message, 100, &mut Vec::new()), Err(Unnamed::NoBinary));
    }

    #[test]
    fn a_bomb_is_refused_before_it_grows() {
        for binary in [Binary::Gzip, Binary::Zlib, Binary::Zstd] {
            let frame = packed(binary, &vec![b' '; 10_000_000]);
            assert!(frame.len() < 100_000, "{binary:?}: {} bytes", frame.len());
            let mut unpacked = Vec::new();
            let refused = unpack(binary, &frame, 1000, &mut unpacked);
            assert_eq!(refused, Err(Unnamed::TooBig { bytes_max: 1000 }), "{binary:?}");
            assert!(unpacked.capacity() < 1 << 20, "{binary:?}: {} bytes held", unpacked.capacity());
        }
    }

    #[test]
    fn what_is_not_compressed_so_is_refused() {
        for (binary, format) in [(Binary::Gzip, "gzip"), (Binary::Zlib, "zlib"), (Binary::Zstd, "zstd")] {
            for frame in [&b"{}"[..], b"", b"\x1f\x8b\x08"] {
                let mut unpacked = Vec::new();
                let refused = unpack(binary, frame, 1000, &mut unpacked);
                assert_eq!(refused, Err(Unnamed::Unpackable { format }), "{frame:?}");
            }
        }
    }
}
