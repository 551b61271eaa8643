//! Deflate tokens that many recipients share, each with a window of its own: matches are searched for once, distances
//! are filled in for each recipient.
//!
//! A recipient's window is a function of the text that it has inflated, not of how that text was encoded (RFC 1951
//! section 2). So a text that two recipients have both received can be referred to for both, and the two references
//! differ in nothing but the distance: how much other text each has received since.
//!
//! - A [`Tokenizer`] searches a text for matches, in itself and in the texts before it on the same topic.
//! - [`Tokens`] are what it finds: runs of finished bits, each of which ends where a distance is missing.
//! - A [`Stream`] is what one recipient has inflated, as a number of bytes; a [`Mark`] is where in it the newest texts
//!   of one topic began. [`Stream::put_tokens`] fills the distances in, or says that the recipient lacks a text.
//!
//! Recipients that have received the same, in the same order, may share a stream.
//!
//! # What the caller vouches for
//! - A mark belongs to one stream and one topic. Each text of the topic either entered the window, and
//!   [`Stream::advance`] was called for it, or [`Mark::forget`] was.
//! - The references of the tokens are the texts before, byte for byte, in the order in which the mark has them.
//! - All that is sent compressed is counted by `advance`, or [`Stream::arrive`] is called after it. A message that is
//!   sent uncompressed enters no window (RFC 7692 section 7.2.3.2), and is not counted.
//!
//! A breach corrupts the recipient's text silently, and all of it that refers there.
//!
//! ```
//! use shared_deflate::deflate::Inflater;
//! use shared_deflate::token::{Mark, Stream, Tokenizer};
//!
//! let texts: [&[u8]; 2] = [br#"{"symbol":"AAPL","bid":227.63}"#, br#"{"symbol":"AAPL","bid":227.64}"#];
//! let mut tokenizer = Tokenizer::new();
//! let tokens = [tokenizer.tokens(texts[0], &[]), tokenizer.tokens(texts[1], &texts[..1])];
//!
//! let (mut stream, mut mark, mut inflater) = (Stream::new(15), Mark::default(), Inflater::new());
//! for (text, tokens) in texts.iter().zip(&tokens) {
//!     let mut payload = Vec::new();
//!     assert!(stream.put_tokens(&mark, tokens.as_ref().expect("a short text"), &mut payload));
//!     stream.advance(&mut mark, text.len());
//!     assert_eq!(inflater.inflate_with_context(&payload, 100)?, *text);
//! }
//! # Ok::<(), shared_deflate::deflate::InflateError>(())
//! ```

mod codes;
mod huffman;
mod pack;
mod parse;
mod stream;

pub use pack::Tokens;
pub use parse::{REFERENCES_MAX, TEXT_BYTES_MAX, Tokenizer};
pub use stream::{Mark, Stream};
