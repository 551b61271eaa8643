//! Deflating and inflating: bounded, and each the other's inverse.

use shared_deflate::deflate::{Deflater, InflateError, Inflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

use super::bits::Input;
use super::receiver::Receiver;

/// Any bytes inflate to at most the limit or are refused, and leave the inflater fit for the next message.
pub fn inflate(input: &[u8]) {
    let mut input = Input(input);
    let max = usize::from(input.byte()) << (input.byte() % 9);
    let mut inflater = Inflater::new();
    let first = inflater.inflate(input.0, max);
    if let Ok(out) = &first {
        assert!(out.len() <= max, "{} bytes, limit {max}", out.len());
        assert!(out.capacity() <= max + 1, "room for {} bytes, limit {max}", out.capacity());
    }
    assert_eq!(inflater.inflate(input.0, max), first, "a used inflater is like a new one");
    // A limit decides whether a message is refused, never what is in it.
    match (&first, inflater.inflate(input.0, max + 1000)) {
        (Ok(first), Ok(again)) => assert_eq!(*first, again),
        (Err(InflateError::TooBig { .. }), Ok(again)) => assert!(again.len() > max, "refused {} bytes", again.len()),
        (Err(InflateError::TooBig { .. }), Err(_)) => {}
        // Its words depend on how much was inflated at a time.
        (Err(InflateError::Broken(_)), Err(InflateError::Broken(_))) => {}
        (first, again) => panic!("limit {max} gives {first:?}, 1000 more {again:?}"),
    }
}

/// What a deflater made since its last cut inflates with exactly the same window, message by message, and the first
/// message after a cut also alone, within a limit of its own size.
pub fn deflate(input: &[u8]) {
    let mut input = Input(input);
    let level = 1 + u32::from(input.byte()) % 9;
    let window_bits = WINDOW_BITS_MIN + input.byte() % (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1);
    let mut deflater = Deflater::new(level, window_bits);
    let mut receiver = Receiver::new(window_bits);
    let mut inflater = Inflater::new();
    while !input.is_empty() {
        let style = input.byte();
        let taken = usize::from(input.byte());
        let payload = input.take(taken).repeat(1 + usize::from(style >> 4) * 8);
        let cut = style & 1 == 0;
        if cut {
            deflater.cut();
            receiver.reset();
        }
        let mut deflated = b"kept".to_vec();
        deflater.deflate(&payload, &mut deflated);
        let deflated = deflated.strip_prefix(b"kept").expect("what was there before stays");
        assert_eq!(receiver.read(deflated, payload.len()), payload);
        if cut {
            assert_eq!(inflater.inflate(deflated, payload.len()).as_deref(), Ok(&payload[..]));
            if !payload.is_empty() {
                let max = payload.len() - 1;
                assert_eq!(inflater.inflate(deflated, max), Err(InflateError::TooBig { max }));
            }
        }
    }
}
