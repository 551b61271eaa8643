//! The published payload of an update.

use bytes::Bytes;

use crate::protocol::encoding::{Payload, PayloadKind};

use crate::intake::update::Update;

/// The payload for these bytes: themselves, or `{"topic":…,"data":…}` around them. Bytes that are not text cannot be
/// wrapped.
pub(super) fn payload(update: &Update<'_>, bytes: Bytes) -> Payload {
    let Update { topic, kind, .. } = update;
    if !update.treatment.wrap || *kind == PayloadKind::Binary {
        return Payload { bytes, kind: *kind };
    }
    // 24 bytes of frame; escapes may take more, which is rare.
    let mut out = Vec::with_capacity(topic.len() + bytes.len() + 24);
    out.extend_from_slice(b"{\"topic\":");
    put_string(&mut out, topic);
    out.extend_from_slice(b",\"data\":");
    match kind {
        PayloadKind::Json => out.extend_from_slice(&bytes),
        PayloadKind::Text | PayloadKind::Binary => put_string(&mut out, &String::from_utf8_lossy(&bytes)),
    }
    out.push(b'}');
    Payload { bytes: out.into(), kind: PayloadKind::Json }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serialises into memory");
}
