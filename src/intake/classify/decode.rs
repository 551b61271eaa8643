//! What a binary frame holds, by the profile's `[decode]`: never more than the longest message.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

use crate::intake::classify::Unnamed;
use crate::profile::decode::Binary;

/// A window of this many bytes is granted whatever the longest message is (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;

/// The bytes that the frame holds; `unpacked` is where they are put if they are compressed. More than `bytes_max` are
/// refused as soon as they are seen.
pub fn unpack<'a>(
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
