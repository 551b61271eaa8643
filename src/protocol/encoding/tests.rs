//! Encodings hold what is documented, and are as small as they can be.

use super::*;
use crate::protocol::encodings::Encodings;
use crate::protocol::form::FORMS_MAX;
use shared_deflate::deflate::Inflater;

fn payload(bytes: &'static [u8], kind: PayloadKind) -> Payload {
    Payload { bytes: Bytes::from_static(bytes), kind }
}

fn envelope(offset: u64, payload: &Payload) -> Envelope<'_> {
    Envelope { topic: "a.\"b\"", offset: Offset(offset), ts_ms: 9, kind: None, payload }
}

#[test]
fn every_encoding_has_a_place_of_its_own() {
    for (at, encoding) in Encoding::ALL.into_iter().enumerate() {
        assert_eq!(encoding.index(), at, "{encoding:?}");
    }
}

#[test]
fn an_envelope_holds_the_payload_byte_for_byte() {
    for (payload, expected) in [
        (payload(b"{\"p\": 1.500}", PayloadKind::Json), r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data":{"p": 1.500}}"#),
        (
            payload(b"say \"hi\"\r\n", PayloadKind::Text),
            r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data":"say \"hi\"\r\n"}"#,
        ),
        (payload(&[0, 255, 16], PayloadKind::Binary), r#"{"topic":"a.\"b\"","offset":7,"ts":9,"data_base64":"AP8Q"}"#),
    ] {
        let mut out = Vec::new();
        put_envelope(&mut out, &envelope(7, &payload));
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }
}

#[test]
fn snapshots_and_deltas_say_so() {
    let payload = payload(b"1", PayloadKind::Json);
    for (kind, expected) in [(EnvelopeKind::Snapshot, "snapshot"), (EnvelopeKind::Delta, "delta")] {
        let mut out = Vec::new();
        put_envelope(&mut out, &Envelope { topic: "a", kind: Some(kind), ..envelope(7, &payload) });
        let expected = format!(r#"{{"topic":"a","offset":7,"ts":9,"kind":"{expected}","data":1}}"#);
        assert_eq!(String::from_utf8(out), Ok(expected));
    }
}

#[test]
fn a_message_between_frames_is_plain_for_envelopes_and_nothing_otherwise() {
    let text = [b'x'; 200];
    for encoding in Encoding::ALL {
        let Encoded { bytes, plain_bytes } = Encoded::message(encoding, Offset(7), &text);
        let before: &[u8] = match (encoding.format, encoding.framing) {
            (Format::Raw | Format::Form(_), _) => {
                assert!(bytes.is_empty() && plain_bytes == 0, "{encoding:?}");
                continue;
            }
            (_, Framing::WebSocket) => &[0x81, 126, 0, 200],
            (_, Framing::Events(_)) => b"id: 0000000000000000:7\ndata: ",
            (_, Framing::Lines) => b"",
            // A stored block of 231 bytes (RFC 1951 section 3.2.4).
            (_, Framing::Gzip(_)) => b"\0\xE7\0\x18\xFFid: 0000000000000000:7\ndata: ",
        };
        assert!(bytes.starts_with(before) && bytes[before.len()..].starts_with(&text), "{encoding:?}");
        assert_eq!(bytes.len(), plain_bytes);
    }
}

#[test]
fn in_a_stream_of_text_a_payload_with_line_breaks_stays_one_message() {
    let mut encoder = Encoder::new(6);
    let broken = payload(b"{\n}", PayloadKind::Json);
    for (framing, expected) in [
        (
            Framing::Events(Epoch(16)),
            "id: 0000000000000010:7\ndata: {\"topic\":\"a.\\\"b\\\"\",\"offset\":7,\"ts\":9,\"data\":{\ndata: }}\n\n",
        ),
        (Framing::Lines, "{\"topic\":\"a.\\\"b\\\"\",\"offset\":7,\"ts\":9,\"data\":{ }}\n"),
    ] {
        let encoding = Encoding { format: Format::Envelope, framing, deflated: false };
        let encoded = encoder.encode(encoding, &envelope(7, &broken));
        assert_eq!(std::str::from_utf8(&encoded.bytes), Ok(expected));
    }
}

#[test]
fn a_deflated_encoding_is_smaller_or_plain() {
    let mut encoder = Encoder::new(6);
    let long = payload(&[b'x'; 1000], PayloadKind::Text);
    let Encoded { bytes: deflated, plain_bytes } =
        encoder.encode(Encoding::websocket(Format::Raw, true), &envelope(1, &long));
    assert_eq!(plain_bytes, 1004);
    assert_eq!(deflated[0], 0xC1);
    assert_eq!(Inflater::new().inflate(&deflated[2..], 1000).as_deref(), Ok(&long.bytes[..]));
    let short = payload(b"q7", PayloadKind::Binary);
    assert_eq!(&encoder.encode(Encoding::websocket(Format::Raw, true), &envelope(2, &short)).bytes[..], b"\x82\x02q7");
    assert_eq!(encoder.take_made(), [0, 0, 0, 2, 0, 0, 0, 0]);
}

#[test]
fn a_form_is_made_by_the_dialect_and_has_a_place_of_its_own() {
    struct Numbered;
    impl Forms for Numbered {
        fn put(&self, form: FormId, envelope: &Envelope<'_>, out: &mut Vec<u8>) {
            let (topic, bytes) = (envelope.topic, envelope.payload.bytes.len());
            out.extend_from_slice(format!("{} {topic} {bytes}", form.0).as_bytes());
        }
    }
    let mut encoder = Encoder::with_forms(6, Some(Arc::new(Numbered)));
    let (encodings, payload) = (Encodings::default(), payload(b"[1]", PayloadKind::Json));
    for _ in 0..2 {
        for form in 0..FORMS_MAX as u8 {
            let encoding = Encoding::websocket(Format::Form(FormId(form)), false);
            let encoded = encodings.get_or_make(encoding, || encoder.encode(encoding, &envelope(1, &payload)));
            assert_eq!(encoded.text(), format!("{form} a.\"b\" 3").as_bytes());
        }
    }
    assert_eq!(encoder.take_made(), [0, 0, 0, 0, 0, 0, 0, FORMS_MAX as u64]);
}
